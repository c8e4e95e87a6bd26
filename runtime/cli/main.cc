// The command line: a thin client of the runtime.
#include <csignal>
#include <cstdlib>
#include <exception>
#include <new>

#include "arguments.h"
#include "error.h"
#include "runtime/src/float_environment.h"
#include "terminal.h"

namespace {

constexpr int kBadInput = 1, kBadUsage = 2;

/// nlohmann::json needs memory to be destroyed; where there is none, it ends here.
[[noreturn]] void on_terminate() {
    try {
        if (const auto error = std::current_exception()) std::rethrow_exception(error);
    } catch (const std::bad_alloc &) {
        shufflenet::cli::report_error("out of memory");
        std::_Exit(kBadInput);
    } catch (...) {
        std::abort();
    }
    std::abort();
}

}  // namespace

int main(int argc, char **argv) {
    using namespace shufflenet::cli;
    std::set_terminate(on_terminate);
    // A program that is linked with -ffast-math starts with denormals flushed.
    const shufflenet::DefaultFloatEnvironment environment;
    std::signal(SIGXFSZ, SIG_IGN);  // `ulimit -f` of standard output is an error like a full disk.
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
