// The tuned numbers of schedules, which the generators read.
#include "schedules/tuning.h"

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>

#include "check.h"

using namespace shufflenet;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const int file = memfd_create("tuning", 0);
    fuzz::require(file >= 0 && write(file, data, size) == static_cast<ssize_t>(size), "the input is in a file");
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    try {
        for (const int batch : {1, 64}) {
            const schedules::Tuning tuning = schedules::read_tuning(path, "stage2_basic", batch);
            fuzz::require(tuning.tile_pixels >= 0 && tuning.order >= 0, "numbers are not negative");
        }
    } catch (const std::runtime_error &error) {
        const std::string message = error.what();
        fuzz::require(message.starts_with(path + ": "), "a message starts with the file's name");
        fuzz::require_error_line(fuzz::kName + message.substr(path.size()));
    }
    close(file);
    return 0;
}
