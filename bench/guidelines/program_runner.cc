#include "program_runner.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <stdexcept>

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

const GuidelineKernel &find_kernel(const networks::Kernel &kernel, std::string_view isa) {
    static const std::span<const GuidelineKernel> all = guideline_kernels();
    const std::string wanted = key(kernel);
    const auto found =
        std::ranges::find_if(all, [&](const GuidelineKernel &k) { return k.key == wanted && k.isa == isa; });
    if (found == all.end()) {
        throw std::runtime_error("kernel " + wanted + " for " + std::string(isa) + ": not compiled in");
    }
    return *found;
}

}  // namespace

ProgramRunner::ProgramRunner(networks::Program program, std::string_view isa, int first, int threads)
    : first_(first),
      data_(std::move(program)),
      network_(data_.graph(), 1),
      isa_(isa),
      fastest_(data_.source().calls.size(), std::numeric_limits<double>::infinity()) {
    for (const networks::Kernel &kernel : data_.source().kernels) {
        const GuidelineKernel &found = find_kernel(kernel, isa);
        table_.push_back(found.kernel);
        kernels_.scratch_bytes = std::max(kernels_.scratch_bytes, found.scratch_bytes);
    }
    kernels_.isa = isa_.c_str();
    kernels_.kernels = table_.data();
    calls_ = std::make_unique<ProgramCalls>(data_.source(), data_.program(), kernels_, network_, threads);
}

double ProgramRunner::run() {
    const auto start = Clock::now();
    auto before = start;
    for (auto i = size_t(first_); i < fastest_.size(); ++i) {
        calls_->runner().run(static_cast<int>(i));
        const auto after = Clock::now();
        fastest_[i] = std::min(fastest_[i], std::chrono::duration<double>(after - before).count());
        before = after;
    }
    return std::chrono::duration<double>(before - start).count();
}

double ProgramRunner::fastest() const {
    double sum = 0;
    for (const double part : fastest_parts()) sum += part;
    return sum;
}

std::array<double, kTimeParts.size()> ProgramRunner::fastest_parts() const {
    std::array<double, kTimeParts.size()> parts{};
    constexpr size_t kDataMovement = 3;
    for (auto i = size_t(first_); i < fastest_.size(); ++i) {
        const std::vector<int> &layers = data_.source().calls[i].layers;
        // A copy that the planner needed is none of the graph's.
        const size_t part = layers.empty() ? kDataMovement : time_part(data_.graph().layers[layers.back()]);
        parts[part] += fastest_[i];
    }
    return parts;
}

int64_t ProgramRunner::bytes() const {
    int64_t floats = 0;
    for (auto i = size_t(first_); i < fastest_.size(); ++i) {
        const networks::Kernel &k = data_.source().kernels[data_.source().calls[i].kernel];
        const networks::TableLayout table = table_layout(k);
        const bool copies = k.kind == networks::KernelKind::kCopy;
        const int64_t planes = copies ? 0 : table.planes;
        const int64_t channels = copies ? k.lanes : table.channels;
        floats += (planes * kPlane + channels) * k.in.pixels() + weight_floats(k);
        floats += (int64_t{k.groups} * k.planes() + table.addends) * kPlane * k.out.pixels();
    }
    return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace shufflenet::bench
