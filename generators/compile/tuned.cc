#include "tuned.h"

#include <filesystem>
#include <stdexcept>

#include "files.h"
#include "networks/devices.h"
#include "networks/targets.h"

namespace shufflenet::compile {

namespace {

const std::string kOption = "--tuned", kFlag = kOption + ": ";

/// Instruction sets and devices.
std::string all_names() { return target_names() + ", " + device_names(); }

}  // namespace

TunedNumbers::TunedNumbers(const std::string &path) {
    if (path.empty()) return;
    if (!std::filesystem::is_directory(path)) {
        const std::string target = schedules::tuning_target(read_text(path, kOption), kFlag + path);
        if (find_target(target) == nullptr && find_device(target) == nullptr) {
            throw std::runtime_error(kFlag + path + ": target: expected one of " + all_names() + ", found \"" + target +
                                     "\"");
        }
        add(target, path);
        return;
    }
    const auto look_for = [&](std::string_view name) {
        const std::string file = path + "/" + std::string(name) + ".json";
        if (std::filesystem::exists(file)) add(std::string(name), file);
    };
    for (const TargetSpec &target : kTargets) look_for(target.name);
    for (const DeviceSpec &device : kDevices) look_for(device.name);
    if (files_.empty()) {
        throw std::runtime_error(kFlag + path + ": expected a file <target>.json of " + all_names() + ", found none");
    }
}

void TunedNumbers::add(const std::string &target, const std::string &path) {
    given_[target] = {kFlag + path, read_text(path, kOption)};
    files_.push_back(path);
    if (given_[target].json.empty()) throw std::runtime_error(kFlag + path + ": expected a JSON object, found nothing");
    // What is malformed is to be found before anything is compiled.
    (void)find(target, "");
}

/// Without text where there are none.
TunedNumbers::Numbers TunedNumbers::numbers_for(std::string_view target) const {
    const auto found = given_.find(target);
    if (found != given_.end()) return found->second;
    return {"built-in numbers for " + std::string(target), std::string(built_in_numbers(target))};
}

schedules::Tuning TunedNumbers::find(std::string_view target, const std::string &key, int batch) const {
    const Numbers numbers = numbers_for(target);
    if (numbers.json.empty()) return {};
    return schedules::parse_tuning(numbers.json, numbers.name, key, batch);
}

std::vector<int> TunedNumbers::batches(std::string_view device) const {
    const Numbers numbers = numbers_for(device);
    if (numbers.json.empty()) return {1};
    return schedules::tuned_batches(numbers.json, numbers.name);
}

}  // namespace shufflenet::compile
