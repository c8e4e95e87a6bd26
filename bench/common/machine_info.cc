#include "machine_info.h"

#include <fstream>
#include <thread>

namespace shufflenet::bench {

std::string machine_name() {
    std::ifstream file("/proc/cpuinfo");
    std::string name = "unknown processor", family, model, implementer;
    for (std::string line; std::getline(file, line) && !line.empty();) {
        const size_t colon = line.find(": ");
        if (colon == std::string::npos) continue;
        const std::string value = line.substr(colon + 2);
        if (line.starts_with("model name"))
            name = value;
        else if (line.starts_with("model\t"))
            model = value;
        else if (line.starts_with("CPU implementer"))
            implementer = value;
        else if (line.starts_with("CPU part"))
            name = "ARM implementer " + implementer + " part " + value;
        else if (line.starts_with("cpu family"))
            family = value;
    }
    if (!family.empty()) name += " (family " + family + ", model " + model + ")";
    return name + ", " + std::to_string(std::thread::hardware_concurrency()) + " processors";
}

}  // namespace shufflenet::bench
