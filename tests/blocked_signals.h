// Which signals the threads of this process block.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

namespace shufflenet {

/// By thread; bit s - 1 for signal s.
inline std::map<std::string, uint64_t> blocked_signals() {
    std::map<std::string, uint64_t> blocked;
    for (const auto &thread : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream file(thread.path() / "status");
        for (std::string line; std::getline(file, line);) {
            constexpr std::string_view kField = "SigBlk:";
            if (line.starts_with(kField)) {
                blocked[thread.path().filename().string()] = std::stoull(line.substr(kField.size()), nullptr, 16);
            }
        }
    }
    return blocked;
}

}  // namespace shufflenet
