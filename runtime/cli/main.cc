// The command line: a thin client of the runtime.
#include <exception>
#include <new>

#include "arguments.h"
#include "error.h"
#include "terminal.h"

int main(int argc, char **argv) {
    using namespace shufflenet::cli;
    constexpr int kBadInput = 1, kBadUsage = 2;
    try {
        const int status = parse_arguments(argc, argv)();
        flush_stdout();
        return status;
    } catch (const UsageError &error) {
        report_error(error.what());
        return kBadUsage;
    } catch (const std::bad_alloc &) {
        report_error("out of memory");
    } catch (const std::exception &error) {
        report_error(error.what());
    }
    return kBadInput;
}
