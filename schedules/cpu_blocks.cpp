// What only experiments have: a block as a graph of steps, and operations alone.
#include "cpu_schedule.h"

namespace shufflenet::schedules {

using Halide::TailStrategy;

void Cpu::apply(ElementWise &f) const {
    Var co("co"), ci("ci"), task("task");
    if (f.pixels) {
        // As many pixels a task as make a fork worth while.
        const int vec = std::min(m_.vec, f.extent);
        f.out.split(f.c, co, ci, vec, TailStrategy::ShiftInwards).vectorize(ci);
        f.out.split(f.p, task, f.p, 196, TailStrategy::GuardWithIf).parallel(task);
        return;
    }
    Var cu("cu");
    constexpr int kUnrolled = 4;
    f.out.split(f.c, co, ci, m_.vec, TailStrategy::ShiftInwards)
        .vectorize(ci)
        .split(co, co, cu, kUnrolled, TailStrategy::ShiftInwards)
        .unroll(cu)
        .split(co, task, co, 256, TailStrategy::GuardWithIf)
        .parallel(task);
}

namespace {

Func &out_of(WholeBlock::Step &step) {
    if (auto *alone = std::get_if<Func>(&step.layer)) return *alone;
    if (auto *pw = std::get_if<Pointwise>(&step.layer)) return pw->parts.front().out;
    if (auto *dw = std::get_if<Depthwise>(&step.layer)) return dw->parts.front().out;
    return std::get<Convolution>(step.layer).parts.front().out;
}

/// The step for whose strips each step is computed: the one that all of its readers are, or are computed for. A step is
/// its own home, computed as a whole, where there is no such one, and where a window reads it, because strips would
/// compute the rows between them twice.
std::vector<int> homes_of(const WholeBlock &f) {
    std::vector<int> home(f.steps.size());
    for (int i = static_cast<int>(f.steps.size()) - 1; i >= 0; --i) {
        const WholeBlock::Step &step = f.steps[i];
        home[i] = i;
        if (step.stored || step.window) continue;
        const int first = home[step.readers.at(0)];
        if (std::ranges::all_of(step.readers, [&](int reader) { return home[reader] == first; })) home[i] = first;
    }
    return home;
}

}  // namespace

void Cpu::strip_step(WholeBlock &f, WholeBlock::Step &step, Func &home, Var strip) const {
    Var co("co"), po("po"), cv("cv"), ci("ci");
    const int vec = vector_of(step.channels);
    out_of(step).compute_at(home, strip).bound(f.c, 0, step.channels.lanes);
    if (auto *pw = std::get_if<Pointwise>(&step.layer)) {
        tile(*pw, pw->parts.front(), f.c, f.p, tile_of(*pw, step.channels, 1), po, co);
    } else if (auto *dw = std::get_if<Depthwise>(&step.layer)) {
        depthwise(*dw, dw->parts.front(), f.c, f.x, f.y, f.p, co);
    } else if (auto *conv = std::get_if<Convolution>(&step.layer)) {
        pad(conv->padded.compute_root(), conv->in_lanes, f.c);
        convolution(*conv, conv->parts.front(), f.c, f.x, f.y, f.p, co);
    } else {
        out_of(step).align_bounds(f.c, vec).split(f.c, cv, ci, vec).reorder(ci, cv, f.p).vectorize(ci);
    }
}

void Cpu::whole_step(WholeBlock &f, int number, const std::vector<int> &members) const {
    WholeBlock::Step &step = f.steps[number];
    Func &out = out_of(step);
    if (!step.stored) out.compute_root().bound(f.c, 0, step.channels.lanes);
    const int blocks = blocks_of(step.size);
    if (auto *dw = std::get_if<Depthwise>(&step.layer)) return store(*dw, f.c, f.x, f.y, f.p, blocks);
    if (auto *conv = std::get_if<Convolution>(&step.layer)) return store(*conv, f.c, f.x, f.y, f.p, blocks);
    auto *pw = std::get_if<Pointwise>(&step.layer);
    if (pw != nullptr && members.empty()) return store(*pw, f.c, f.p, blocks);

    // What is computed for a strip is read at once: it should be found in a first or near second-level cache.
    constexpr int64_t kStripBytes = 128 << 10;
    int64_t row_bytes = 0;
    for (const int member : members) {
        row_bytes += static_cast<int64_t>(sizeof(float)) * f.steps[member].channels.lanes * step.size.width;
    }
    int rows = step.size.height;
    while (rows > 1 && (rows * row_bytes > kStripBytes || rows > 14)) rows = (rows + 1) / 2;
    rows = divisor(step.size.height, rows);
    Var strip("strip"), cv("cv"), ci("ci");
    if (pw != nullptr) {
        strips(*pw, f.c, f.p, rows * step.size.width, strip);
    } else {
        const int vec = vector_of(step.channels);
        out.split(f.p, strip, f.p, rows * step.size.width)
            .split(f.c, cv, ci, vec)
            .reorder(ci, cv, f.p, strip)
            .vectorize(ci)
            .parallel(strip);
    }
    for (const int member : members) strip_step(f, f.steps[member], out, strip);
}

void Cpu::apply(WholeBlock &f) const {
    const std::vector<int> home = homes_of(f);
    for (int step = 0; step < static_cast<int>(f.steps.size()); ++step) {
        if (home[step] != step) continue;
        std::vector<int> members;
        for (int i = 0; i < step; ++i) {
            if (home[i] == step) members.push_back(i);
        }
        whole_step(f, step, members);
    }
}

}  // namespace shufflenet::schedules
