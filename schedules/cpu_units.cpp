// Units: in what order their layers are computed.
#include <stdexcept>
#include <string>

#include "cpu_schedule.h"

namespace shufflenet::schedules {

using Halide::TailStrategy;

void Cpu::pad_pixels(Depthwise &f, Var c) {
    constexpr int kConflict = (2 << 10) / static_cast<int>(sizeof(float));
    for (Depthwise::Part &part : f.parts) {
        const int lanes = part.channels.lanes;
        if (lanes % kConflict == 0) part.out.align_storage(c, lanes + kLineFloats);
    }
}

int Cpu::panels_together(const Unit &f, const ChannelPart &part) const {
    const int panels = part.lanes / part.vec, vectors = part.vec / vector_of(part);
    const int lanes = f.dw.layout.lanes * f.dw.groups;
    int together = std::clamp(tile_of(f.pw1, part, 1).vectors / vectors, 1, std::max(1, panels / 2));
    for (; together > 1; --together) {
        if (panels % together != 0) continue;
        if (fits_scratch(unit_bytes(f.dw.in_size, f.dw.out_size, lanes, together * kPanelFloats))) break;
    }
    return together;
}

Order Cpu::order_of(const Unit &f) const {
    const int lanes = f.dw.layout.lanes * f.dw.groups;
    const int64_t rows = unit_bytes(f.dw.in_size, f.dw.out_size, lanes, lanes);
    const int64_t channels = unit_bytes(f.dw.in_size, f.dw.out_size, lanes, kPanelFloats);
    const auto tuned = static_cast<Order>(tuning_.order);
    if ((tuned == Order::kRows && rows > kScratchBytes) || (tuned == Order::kChannels && channels > kScratchBytes) ||
        (tuned == Order::kStrips && f.pw2.parts.size() > 1) || tuned > Order::kStrips) {
        throw std::runtime_error("order " + std::to_string(tuning_.order) + ": not possible for this unit");
    }
    if (tuned != Order::kAuto) return tuned;
    if (fits_scratch(rows)) return Order::kRows;
    return fits_scratch(channels) ? Order::kChannels : Order::kStrips;
}

int Cpu::strip_rows(Size out, const std::function<int64_t(int)> &bytes) const {
    if (tuning_.strip_rows > 0) {
        const int rows = std::min(tuning_.strip_rows, out.height);
        if (bytes(rows) <= kScratchBytes) return rows;
        throw std::runtime_error("strip_rows " + std::to_string(rows) + ": needs " + std::to_string(bytes(rows)) +
                                 " bytes of scratch memory, " + std::to_string(kScratchBytes) + " are there");
    }
    int strip = out.height;
    while (strip > 1 && bytes(strip) > kScratchBytes / 2) strip = (strip + 1) / 2;
    // Strips that divide the image compute no row twice; but each computes the rows that windows add to it.
    const int even = divisor(out.height, strip);
    return even >= strip / 2 ? even : strip;
}

void Cpu::strips(Pointwise &f, Var c, Var p, int pixels, Var strip) const {
    Pointwise::Part &part = f.parts.at(0);
    Var po("po"), co("co");
    part.out.split(p, strip, p, pixels, TailStrategy::ShiftInwards);
    tile(f, part, c, p, tile_of(f, part.channels, 1), po, co);
    // All groups of a strip, which share its intermediates.
    if (!f.group.empty()) part.out.reorder(f.planes ? f.planes->group : f.group[0], strip);
    // The last strip overlaps the one before it if they do not divide the image: both are one thread's, because a
    // row's last bits may depend on its place in a strip (borders are compiled apart, and LLVM 19 adds in another
    // order there).
    const int count = pieces(f.pixels, pixels);
    int together = 1;
    if (f.pixels % pixels != 0) {
        while (together < count && (count - 1) % together == 0) ++together;
    }
    Var task("task");
    part.out.split(strip, task, strip, together, TailStrategy::GuardWithIf).parallel(task);
}

void Cpu::in_rows(Unit &f) const {
    const int blocks = blocks_of(f.dw.out_size);
    for (Pointwise::Part &part : f.pw1.parts) part.out.compute_root();
    store(f.pw1, f.c, f.p, blocks);
    store(f.dw, f.c, f.x, f.y, f.p, blocks);
    store(f.pw2, f.c, f.p, blocks);
}

void Cpu::in_channels(Unit &f) const {
    // A few vectors of pw1's channels over the whole image stay in L1/L2 and are consumed at once by the same channels
    // of dw; dw's output (all channels) stays in L2 until pw2 has used it.
    for (size_t i = 0; i < f.dw.parts.size(); ++i) {
        Var co("co"), po("po"), tile_co("tile_co"), panel("panel");
        const ChannelPart &channels = f.dw.parts[i].channels;
        const int panels = panels_together(f, channels);
        f.dw.parts[i].out.compute_root();
        depthwise(f.dw, f.dw.parts[i], f.c, f.x, f.y, f.p, co);
        if (panels > 1) f.dw.parts[i].out.split(co, co, panel, panels);
        f.dw.parts[i].out.parallel(co);
        f.pw1.parts[i].out.compute_at(f.dw.parts[i].out, co);
        const Tile t = tile_of_panel(f.pw1, {channels.first, channels.lanes, panels * channels.vec}, f.pw1.pixels);
        tile(f.pw1, f.pw1.parts[i], f.c, f.p, t, po, tile_co);
    }
    store(f.pw2, f.c, f.p, blocks_of(f.dw.out_size));
}

void Cpu::in_strips(Unit &f) const {
    const Size in = f.dw.in_size;
    const Size out = f.dw.out_size;
    const int strip_height = strip_rows(out, [&](int rows) {
        const int in_rows = std::min(in.height, (rows - 1) * f.dw.window.stride.height + f.dw.window.kernel.height);
        return unit_bytes({in_rows, in.width}, {rows, out.width}, f.dw.layout.lanes * f.dw.groups, kPanelFloats);
    });
    Var strip("strip"), co("co"), po("po"), tile_co("tile_co");
    strips(f.pw2, f.c, f.p, strip_height * out.width, strip);
    Depthwise::Part &dw = f.dw.parts.at(0);
    dw.out.compute_at(f.pw2.parts[0].out, strip);
    depthwise(f.dw, dw, f.c, f.x, f.y, f.p, co);
    f.pw1.parts[0].out.compute_at(dw.out, co);
    tile(f.pw1, f.pw1.parts[0], f.c, f.p, tile_of_panel(f.pw1, dw.channels, strip_height * in.width), po, tile_co);
}

void Cpu::apply(Unit &f) const {
    pad_pixels(f.dw, f.c);
    switch (order_of(f)) {
    case Order::kRows:
        return in_rows(f);
    case Order::kChannels:
        return in_channels(f);
    default:
        return in_strips(f);
    }
}

void Cpu::apply(Separable &f) const {
    pad_pixels(f.dw, f.c);
    const Size out = f.dw.out_size;
    const int lanes = f.dw.layout.lanes;
    if (fits_scratch(unit_bytes(out, out, lanes, 0))) {
        const int blocks = blocks_of(out);
        store(f.dw, f.c, f.x, f.y, f.p, blocks);
        return store(f.pw, f.c, f.p, blocks);
    }
    Var strip("strip"), co("co");
    const int rows = strip_rows(out, [&](int height) { return unit_bytes({}, {height, out.width}, lanes, 0); });
    strips(f.pw, f.c, f.p, rows * out.width, strip);
    f.dw.parts[0].out.compute_at(f.pw.parts[0].out, strip);
    depthwise(f.dw, f.dw.parts[0], f.c, f.x, f.y, f.p, co);
}

}  // namespace shufflenet::schedules
