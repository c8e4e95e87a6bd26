#include "tuned.h"

#include <filesystem>
#include <stdexcept>

#include "files.h"
#include "networks/targets.h"

namespace shufflenet::compile {

namespace {

const std::string kOption = "--tuned", kFlag = kOption + ": ";

}  // namespace

TunedNumbers::TunedNumbers(const std::string &path) {
    if (path.empty()) return;
    if (!std::filesystem::is_directory(path)) {
        const std::string target = schedules::tuning_target(read_text(path, kOption), kFlag + path);
        if (find_target(target) == nullptr) {
            throw std::runtime_error(kFlag + path + ": target: expected one of " + target_names() + ", found \"" +
                                     target + "\"");
        }
        add(target, path);
        return;
    }
    for (const TargetSpec &target : kTargets) {
        const std::string name(target.name), file = path + "/" + name + ".json";
        if (std::filesystem::exists(file)) add(name, file);
    }
    if (files_.empty()) {
        throw std::runtime_error(kFlag + path + ": expected a file <target>.json of " + target_names() +
                                 ", found none");
    }
}

void TunedNumbers::add(const std::string &target, const std::string &path) {
    given_[target] = {kFlag + path, read_text(path, kOption)};
    files_.push_back(path);
    // What is malformed is to be found before anything is compiled.
    (void)find(target, "");
}

schedules::Tuning TunedNumbers::find(std::string_view target, const std::string &key) const {
    const auto found = given_.find(target);
    if (found != given_.end()) return schedules::parse_tuning(found->second.json, found->second.name, key);
    const std::string_view numbers = built_in_numbers(target);
    if (numbers.empty()) return {};
    return schedules::parse_tuning(numbers, "built-in numbers for " + std::string(target), key);
}

}  // namespace shufflenet::compile
