#include "shufflenet/device.h"

#include <HalideRuntime.h>

#include <algorithm>
#include <new>
#include <vector>

#include "abi.h"
#include "device_launcher.h"
#include "file.h"
#include "message.h"
#include "networks/devices.h"
#include "networks/layers.h"
#include "run_check.h"
#include "safetensors.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr int kMostImages = 4096;

/// Device memory that gives itself back.
class Memory {
  public:
    Memory() = default;
    ~Memory() { reset(); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    Memory(Memory &&other) noexcept
        : api_(other.api_), address_(std::exchange(other.address_, 0)), bytes_(other.bytes_), part_(other.part_) {}
    Memory &operator=(Memory &&other) noexcept {
        reset();
        api_ = other.api_;
        address_ = std::exchange(other.address_, 0);
        bytes_ = other.bytes_;
        part_ = other.part_;
        return *this;
    }

    /// Zeroed, at least one float.
    Status allocate(DeviceApi &api, void *stream, int64_t floats) {
        const size_t bytes = sizeof(float) * static_cast<size_t>(std::max<int64_t>(floats, 1));
        DevicePointer address = 0;
        if (Status status = api.allocate(bytes, &address); !status.ok()) return status;
        take(api, address, bytes, false);
        return api.zero(stream, address_, bytes);
    }
    Status part_of(const Memory &whole, int64_t first, int64_t floats) {
        DevicePointer address = 0;
        const size_t bytes = sizeof(float) * static_cast<size_t>(floats);
        Status status = whole.api_->part(whole.address_, sizeof(float) * static_cast<size_t>(first), bytes, &address);
        if (status.ok()) take(*whole.api_, address, bytes, true);
        return status;
    }
    DevicePointer get() const { return address_; }
    size_t bytes() const { return bytes_; }

  private:
    void take(DeviceApi &api, DevicePointer address, size_t bytes, bool part) {
        reset();
        api_ = &api;
        address_ = address;
        bytes_ = bytes;
        part_ = part;
    }
    void reset() noexcept {
        if (address_ == 0) return;
        part_ ? api_->release_part(address_) : api_->release(address_);
        address_ = 0;
    }
    DeviceApi *api_ = nullptr;
    DevicePointer address_ = 0;
    size_t bytes_ = 0;
    bool part_ = false;
};

/// A kernel's argument: a dense array on the device, seen with (extent, stride) dimensions.
class DeviceArgument {
  public:
    struct Dimension {
        int64_t extent, stride;
    };
    DeviceArgument(DevicePointer memory, std::initializer_list<Dimension> dimensions)
        : DeviceArgument(memory, nullptr, dimensions, halide_type_t(halide_type_float, 32)) {}
    /// Weights and tables have a copy on the host, because what all threads of a kernel read is read before it starts.
    DeviceArgument(DevicePointer memory, const AlignedArray<float> &copy)
        : DeviceArgument(memory, copy.data(), {{int64_t(copy.size()), 1}}, halide_type_t(halide_type_float, 32)) {}
    DeviceArgument(DevicePointer memory, const AlignedArray<int32_t> &copy)
        : DeviceArgument(memory, copy.data(), {{int64_t(copy.size()), 1}}, halide_type_t(halide_type_int, 32)) {}
    DeviceArgument(const DeviceArgument &) = delete;
    DeviceArgument &operator=(const DeviceArgument &) = delete;
    halide_buffer_t *get() { return &buffer_; }

  private:
    DeviceArgument(DevicePointer memory, const void *copy, std::initializer_list<Dimension> dimensions,
                   halide_type_t type) {
        buffer_.device = memory;
        // Halide's buffers are not const, but kernels write to their outputs only.
        buffer_.host = static_cast<uint8_t *>(const_cast<void *>(copy));
        buffer_.type = type;
        buffer_.dim = dimensions_;
        for (const Dimension &d : dimensions) {
            dimensions_[buffer_.dimensions++] = halide_dimension_t(0, int32_t(d.extent), int32_t(d.stride));
        }
    }
    halide_dimension_t dimensions_[4];
    halide_buffer_t buffer_{};
};

/// A kernel's weights and table on the device, and the copies on the host.
struct DeviceKernelWeights {
    Memory weights, table;
    const AlignedArray<float> *host_weights = nullptr;
    AlignedArray<int32_t> host_table;
};

struct DeviceUnitWeights {
    DeviceKernelWeights branch1, branch2;
};

/// All weights on the device, shared between models, and on the host what features need of them.
struct DeviceWeights {
    explicit DeviceWeights(std::shared_ptr<DeviceModules> m) : modules(std::move(m)) {}
    ~DeviceWeights() {
        const Entered entered(modules->api());
        stem = {};
        for (auto &units : stages) units.clear();
        conv5 = {};
        fc = {};
    }
    DeviceWeights(const DeviceWeights &) = delete;
    DeviceWeights &operator=(const DeviceWeights &) = delete;

    std::shared_ptr<DeviceModules> modules;
    std::shared_ptr<const PackedWeights> host;
    DeviceKernelWeights stem;
    std::array<std::vector<DeviceUnitWeights>, kStages> stages;
    DeviceKernelWeights conv5, fc;
};

/// A tensor of blocks for `capacity` images, and each block by itself.
struct BlockTensor {
    BlockLayout layout{};
    int capacity = 0;
    Memory memory;
    std::vector<Memory> blocks;  // After `memory`: parts go first.

    int64_t block_floats() const { return int64_t{capacity} * layout.block_stride(); }
    /// Where an offset within one image's tensor is for image 0 of this one.
    int32_t offset(int32_t of_image) const {
        const int64_t block = of_image / layout.block_stride();
        return static_cast<int32_t>(block * block_floats() + of_image % layout.block_stride());
    }
    Status allocate(DeviceApi &api, void *stream);
};

Status BlockTensor::allocate(DeviceApi &api, void *stream) {
    const int64_t floats = block_floats() * layout.blocks;
    if (floats > INT32_MAX) {
        return {Code::kBadInput, "max_batch: a tensor of " + std::to_string(capacity) + " images has " +
                                     std::to_string(floats) + " floats, expected at most 2147483647"};
    }
    if (Status status = memory.allocate(api, stream, floats); !status.ok()) return status;
    blocks.resize(layout.blocks);
    for (int b = 0; b < layout.blocks; ++b) {
        if (Status s = blocks[b].part_of(memory, b * block_floats(), block_floats()); !s.ok()) return s;
    }
    return {};
}

using message::guarded;
using message::out_of_memory;

const char *const kBeforeOpen = "of a model that is not open";

}  // namespace

/// What a DeviceModel object holds.
struct DeviceModelState {
    const shufflenet_descriptor *descriptor = nullptr;
    /// The device's, by batch.
    std::vector<const shufflenet_device_kernels *> kernels;
    const Network *network = nullptr;
    DeviceOptions options;
    int shared_bytes = 0;
    Size input{};
    std::array<StageShape, kStages> stages{};
    int conv5_lanes = 0;

    std::shared_ptr<DeviceModules> modules;
    std::shared_ptr<const DeviceWeights> weights;
    void *stream = nullptr;
    /// Made by this model: the stream, if none was given; and one to capture graphs on.
    void *own_stream = nullptr;
    std::unique_ptr<DeviceLauncher> launcher;

    BlockTensor stem;
    std::array<BlockTensor, kStages> blocks;
    Memory image, middle, conv5, pooled, logits;
    int logits_classes = 0;
    std::vector<float> feature_staging;

    struct Captured {
        int batch;
        DevicePointer input, logits;
        std::unique_ptr<DeviceGraph> graph;
    };
    std::vector<Captured> graphs;
    size_t next_graph = 0;

    DeviceModelState() = default;
    ~DeviceModelState();
    DeviceModelState(const DeviceModelState &) = delete;
    DeviceModelState &operator=(const DeviceModelState &) = delete;

    DeviceApi &api() const { return modules->api(); }
    Status make(const shufflenet_descriptor &d, const DeviceOptions &o, std::shared_ptr<DeviceModules> given);
    Status choose(const shufflenet_descriptor &d);
    Status make_streams(void *given);
    Status allocate();
    Status prepare(std::shared_ptr<const DeviceWeights> with);
    Status adopt(std::span<const std::byte> file, const std::string &name);
    Status upload(const KernelWeights &from, DeviceKernelWeights *to) const;
    Status upload_table(const KernelWeights &from, int offsets, const BlockTensor &in, DeviceKernelWeights *to) const;
    Status upload_all(DeviceWeights *to) const;
    Status make_logits(int classes);

    const shufflenet_device_kernels &kernels_for(int images) const;
    bool fused(int stage, bool down, int images) const;
    Status enqueue(DevicePointer in, int images, DevicePointer out) noexcept;
    Status enqueue_graph(DevicePointer in, int images, DevicePointer out);
    Status run(std::span<const float> in, int batch, std::span<float> out, std::span<const FeatureRequest> features);
    Status copy_feature(const FeatureRequest &request, int first, int images);
};

namespace {

/// The passage of a batch through a model's kernels.
class DeviceRun {
  public:
    DeviceRun(DeviceModelState &model, const shufflenet_device_kernels &kernels) : m_(model), k_(kernels) {
        context_.device = m_.launcher.get();
    }

    /// All of it. `in`: NCHW; `logits`: images * classes.
    bool chain(const DeviceWeights &w, DevicePointer in, int images, DevicePointer logits) {
        images_ = images;
        if (!stem(w, in)) return false;
        for (int s = 0; s < kStages; ++s) {
            for (int u = 0; u < m_.stages[s].units; ++u) {
                if (!unit(w.stages[s][u], s, u)) return false;
            }
        }
        return pool(w) && fully_connected(w, logits);
    }
    /// The conv5 tensor, for those who ask for it.
    bool conv5(const DeviceWeights &w, int images) {
        images_ = images;
        const int pixels = m_.stages.back().out.pixels();
        DeviceArgument out(m_.conv5.get(), {{round_up(m_.network->conv5_channels, kThreadFloats), 1},
                                            {pixels, m_.conv5_lanes},
                                            {images, int64_t{pixels} * m_.conv5_lanes}});
        return head(k_.conv5, w, out, "conv5");
    }
    /// Every one of the kernels, however units are cut.
    bool everything(const DeviceWeights &w, DevicePointer in, DevicePointer logits) {
        for (const bool whole : {false, true}) {
            forced_ = true;
            whole_ = whole;
            if (!chain(w, in, 1, logits)) return false;
        }
        return conv5(w, 1);
    }
    Status error() const noexcept {
        try {
            return {Code::kInternal, std::string(m_.descriptor->name) + ": " + m_.options.device + ": " +
                                         std::string(failed_.view()) + ": " + error_.message.data()};
        } catch (const std::bad_alloc &) {
            return {Code::kInternal, {}};
        }
    }

  private:
    bool check(int result, const Name &id) {
        if (result == 0 && !context_.error->failed.load(std::memory_order_relaxed)) return true;
        failed_ = id;
        return false;
    }
    static DeviceArgument weights_of(const DeviceKernelWeights &w) { return {w.weights.get(), *w.host_weights}; }
    static DeviceArgument table_of(const DeviceKernelWeights &w) { return {w.table.get(), w.host_table}; }
    /// A tensor of blocks as the kernels read it: (offset, image).
    DeviceArgument blocks_of(const BlockTensor &t) const {
        return {t.memory.get(), {{t.block_floats() * t.layout.blocks, 1}, {images_, t.layout.block_stride()}}};
    }
    /// The lanes that a kernel computes of one block: (lane, pixel, image).
    DeviceArgument block_of(const BlockTensor &t, int block) const {
        return {t.blocks[block].get(),
                {{round_up(t.layout.channels, kThreadFloats), 1},
                 {t.layout.pixels, t.layout.lanes()},
                 {images_, t.layout.block_stride()}}};
    }

    /// The same with rows and columns apart: (lane, x, y, image).
    DeviceArgument rows_of(const BlockTensor &t, int block, Size size) const {
        const int lanes = t.layout.lanes();
        return {t.blocks[block].get(),
                {{round_up(t.layout.channels, kThreadFloats), 1},
                 {size.width, lanes},
                 {size.height, int64_t{size.width} * lanes},
                 {images_, t.layout.block_stride()}}};
    }

    bool stem(const DeviceWeights &w, DevicePointer image) {
        const auto [height, width] = m_.input;
        DeviceArgument in(image, {{width, 1}, {height, width}, {3, width * height}, {images_, 3 * width * height}});
        DeviceArgument weights = weights_of(w.stem);
        DeviceArgument out = rows_of(m_.stem, 0, stem_size(m_.input));
        return check(k_.stem(&context_, in.get(), weights.get(), out.get()), "stem");
    }
    bool unit(const DeviceUnitWeights &w, int s, int u) {
        const bool down = u == 0;
        const BlockTensor &from = !down ? m_.blocks[s] : s == 0 ? m_.stem : m_.blocks[s - 1];
        const Name id = Name("stage") + (s + 2) + "_unit" + u;
        DeviceArgument in = blocks_of(from);
        if (down) {
            DeviceArgument table = table_of(w.branch1);
            DeviceArgument weights = weights_of(w.branch1);
            DeviceArgument out = block_of(m_.blocks[s], 0);
            const int result = k_.down_branch1[s](&context_, in.get(), table.get(), weights.get(), out.get());
            if (!check(result, id + "_branch1")) return false;
        }
        DeviceArgument table = table_of(w.branch2);
        DeviceArgument weights = weights_of(w.branch2);
        if (forced_ ? whole_ : m_.fused(s, down, images_)) {
            DeviceArgument out = rows_of(m_.blocks[s], u + 1, m_.stages[s].out);
            const auto kernel = down ? k_.down_branch2[s] : k_.basic[s];
            return check(kernel(&context_, in.get(), table.get(), weights.get(), out.get()), id + "_branch2");
        }
        DeviceArgument out = block_of(m_.blocks[s], u + 1);
        const StageShape &shape = m_.stages[s];
        const int64_t pixels = unit_shape(shape, down).in.pixels();
        const int lanes = round_up(shape.branch_channels, kPanelFloats);
        DeviceArgument middle(
            m_.middle.get(),
            {{round_up(shape.branch_channels, kThreadFloats), 1}, {pixels, lanes}, {images_, pixels * lanes}});
        const auto expand = down ? k_.down_expand[s] : k_.basic_expand[s];
        const auto project = down ? k_.down_project[s] : k_.basic_project[s];
        return check(expand(&context_, in.get(), table.get(), weights.get(), middle.get()), id + "_branch2_expand") &&
               check(project(&context_, middle.get(), weights.get(), out.get()), id + "_branch2_project");
    }
    bool head(shufflenet_conv5_fn kernel, const DeviceWeights &w, DeviceArgument &out, const char *id) {
        DeviceArgument in = blocks_of(m_.blocks.back());
        DeviceArgument table = table_of(w.conv5);
        DeviceArgument weights = weights_of(w.conv5);
        return check(kernel(&context_, in.get(), table.get(), weights.get(), out.get()), id);
    }
    bool pool(const DeviceWeights &w) {
        DeviceArgument out(m_.pooled.get(), {{round_up(m_.network->conv5_channels, kThreadFloats), 1},
                                             {images_, pooled_stride(*m_.network)}});
        return head(k_.conv5_pool, w, out, "conv5_pool");
    }
    bool fully_connected(const DeviceWeights &w, DevicePointer logits) {
        const int classes = w.host->classes;
        DeviceArgument in(m_.pooled.get(), {{m_.network->conv5_channels, 1}, {images_, pooled_stride(*m_.network)}});
        DeviceArgument weights = weights_of(w.fc);
        DeviceArgument out(logits, {{classes, 1}, {images_, classes}});
        return check(k_.fc(&context_, in.get(), classes, weights.get(), out.get()), "fc");
    }

    DeviceModelState &m_;
    const shufflenet_device_kernels &k_;
    KernelError error_;
    KernelContext context_{.error = &error_};
    int images_ = 1;
    bool forced_ = false, whole_ = false;
    Name failed_;
};

}  // namespace

DeviceModelState::~DeviceModelState() {
    if (modules == nullptr) return;
    const Entered entered(api());
    if (stream != nullptr) (void)api().synchronize(stream);
    graphs.clear();
    stem = {};
    blocks = {};
    for (Memory *memory : {&image, &middle, &conv5, &pooled, &logits}) *memory = {};
    if (own_stream != nullptr) api().release_stream(own_stream);
    launcher.reset();
    weights.reset();
}

Status DeviceModelState::choose(const shufflenet_descriptor &d) {
    descriptor = &d;
    if (options.max_batch < 1 || options.max_batch > kMostImages) {
        return {Code::kBadInput, "max_batch: expected 1 to " + std::to_string(kMostImages) + ", found " +
                                     std::to_string(options.max_batch)};
    }
    const DeviceSpec *spec = find_device(options.device);
    if (spec == nullptr) return {Code::kBadInput, "device: expected cuda or opencl, found " + options.device};
    shared_bytes = spec->shared_bytes;
    for (int i = 0; i < d.device_kernels_count; ++i) {
        if (options.device == d.device_kernels[i].device) kernels.push_back(&d.device_kernels[i]);
    }
    if (kernels.empty()) {
        const std::string devices = compiled_devices(d);
        return {Code::kUnsupported, std::string(d.name) + ": was compiled without kernels for " + options.device +
                                        (devices.empty() ? ", for the CPU only" : ", for " + devices)};
    }
    network = find_network(d.network);
    if (network == nullptr) return {Code::kInternal, std::string(d.name) + ": unknown network " + d.network};
    return {};
}

Status DeviceModelState::make(const shufflenet_descriptor &d, const DeviceOptions &o,
                              std::shared_ptr<DeviceModules> given) {
    options = o;
    if (Status status = check_abi(d); !status.ok()) return status;
    if (Status status = choose(d); !status.ok()) return status;
    if (given == nullptr) {
        std::shared_ptr<DeviceApi> opened;
        const auto open = options.device == "cuda" ? open_cuda : open_opencl;
        if (Status status = open(options, &opened); !status.ok()) return status;
        given = std::make_shared<DeviceModules>(std::move(opened));
    }
    modules = std::move(given);
    if (options.graph && !api().has_graphs()) {
        return {Code::kUnsupported, "graph: " + options.device + " has no graphs"};
    }
    const Entered entered(api());
    if (Status status = make_streams(options.stream); !status.ok()) return status;
    launcher = std::make_unique<DeviceLauncher>(modules);
    launcher->use_stream(stream);
    return allocate();
}

Status DeviceModelState::make_streams(void *given) {
    if (given == nullptr || options.graph) {
        if (Status status = api().make_stream(&own_stream); !status.ok()) return status;
    }
    stream = given != nullptr ? given : own_stream;
    return {};
}

Status DeviceModelState::allocate() {
    // As many images as make every block start where the device lets a part start.
    constexpr size_t kBlockMultiple = sizeof(float) * kLineFloats;
    const auto multiple = static_cast<int>(std::max<size_t>(api().alignment() / kBlockMultiple, 1));
    const int capacity = round_up(options.max_batch, multiple);
    input = {descriptor->height, descriptor->width};
    conv5_lanes = conv5_layout(*network, kPanelFloats).lanes;
    stem.layout = stem_block(*network, input, kPanelFloats);
    stem.capacity = capacity;
    if (Status status = stem.allocate(api(), stream); !status.ok()) return status;
    int64_t middle_floats = 0;
    for (int s = 0; s < kStages; ++s) {
        stages[s] = stage_shape(*network, input, s + 2);
        blocks[s].layout = stage_block(stages[s], kPanelFloats);
        blocks[s].capacity = capacity;
        if (Status status = blocks[s].allocate(api(), stream); !status.ok()) return status;
        middle_floats = std::max(middle_floats, int64_t{stages[s].in.pixels()} * blocks[s].layout.lanes());
    }
    const int64_t images = options.max_batch;
    const std::pair<Memory *, int64_t> tensors[] = {
        {&image, images * 3 * input.pixels()},
        {&middle, images * middle_floats},
        {&conv5, images * stages.back().out.pixels() * conv5_lanes},
        {&pooled, images * pooled_stride(*network)},
    };
    for (const auto &[memory, floats] : tensors) {
        if (Status status = memory->allocate(api(), stream, floats); !status.ok()) return status;
    }
    if (Status status = make_logits(descriptor->classes); !status.ok()) return status;
    return api().synchronize(stream);
}

Status DeviceModelState::make_logits(int classes) {
    if (classes <= logits_classes) return {};
    if (Status s = logits.allocate(api(), stream, int64_t{options.max_batch} * classes); !s.ok()) return s;
    logits_classes = classes;
    return {};
}

Status DeviceModelState::upload(const KernelWeights &from, DeviceKernelWeights *to) const {
    to->host_weights = &from.weights;
    const auto floats = static_cast<int64_t>(from.weights.size());
    if (Status status = to->weights.allocate(api(), stream, floats); !status.ok()) return status;
    return api().upload(stream, to->weights.get(), from.weights.data(), sizeof(float) * from.weights.size());
}

/// The first `offsets` entries of a table are offsets into `in`.
Status DeviceModelState::upload_table(const KernelWeights &from, int offsets, const BlockTensor &in,
                                      DeviceKernelWeights *to) const {
    if (Status status = upload(from, to); !status.ok()) return status;
    const size_t entries = from.table.size();
    if (!to->host_table.allocate(entries)) return out_of_memory("weights");
    for (size_t i = 0; i < entries; ++i) {
        const int32_t entry = from.table.data()[i];
        to->host_table.data()[i] = static_cast<int>(i) < offsets ? in.offset(entry) : entry;
    }
    Status status = to->table.allocate(api(), stream, static_cast<int64_t>(entries));
    if (!status.ok()) return status;
    return api().upload(stream, to->table.get(), to->host_table.data(), sizeof(int32_t) * entries);
}

Status DeviceModelState::upload_all(DeviceWeights *to) const {
    const PackedWeights &host = *to->host;
    if (Status status = upload(host.stem, &to->stem); !status.ok()) return status;
    for (int s = 0; s < kStages; ++s) {
        const BlockTensor &before = s == 0 ? stem : blocks[s - 1];
        to->stages[s].resize(host.stages[s].size());
        for (size_t u = 0; u < host.stages[s].size(); ++u) {
            const UnitWeights &from = host.stages[s][u];
            DeviceUnitWeights &unit = to->stages[s][u];
            if (u == 0) {
                const StageInput in = stage_input(*network, input, s + 2, kPanelFloats);
                const auto vectors = static_cast<int>(live_vectors(in.slots, kPanelFloats).size());
                Status status = upload_table(from.branch1, vectors, before, &unit.branch1);
                if (!status.ok()) return status;
            }
            const auto entries = static_cast<int>(from.branch2.table.size());
            Status status = upload_table(from.branch2, entries, u == 0 ? before : blocks[s], &unit.branch2);
            if (!status.ok()) return status;
        }
    }
    const auto entries = static_cast<int>(host.conv5.table.size());
    if (Status status = upload_table(host.conv5, entries, blocks.back(), &to->conv5); !status.ok()) return status;
    return upload(host.fc, &to->fc);
}

Status DeviceModelState::adopt(std::span<const std::byte> file, const std::string &name) {
    Safetensors tensors;
    if (Status status = Safetensors::parse(file, name, &tensors); !status.ok()) return status;
    auto packed = std::make_shared<PackedWeights>();
    Status status = pack_weights(tensors, name, *network, input, kPanelFloats, packed.get());
    if (!status.ok()) return status;
    auto made = std::make_shared<DeviceWeights>(modules);
    made->host = std::move(packed);
    const Entered entered(api());
    status = upload_all(made.get());
    // Also after an error, since copies of host memory may be under way.
    Status done = api().synchronize(stream);
    if (!status.ok()) return status;
    if (!done.ok()) return done;
    // What was captured has the old weights' addresses.
    status = make_logits(made->host->classes);
    if (!status.ok()) return status;
    graphs.clear();
    return prepare(std::move(made));
}

/// Makes all kernels now, so that no run has to, and then takes the weights.
Status DeviceModelState::prepare(std::shared_ptr<const DeviceWeights> with) {
    launcher->begin_preparing();
    Status status;
    for (const shufflenet_device_kernels *row : kernels) {
        DeviceRun run(*this, *row);
        if (status.ok() && !run.everything(*with, image.get(), logits.get())) status = run.error();
    }
    if (Status prepared = launcher->end_preparing(); !prepared.ok()) return prepared;
    if (!status.ok()) return status;
    weights = std::move(with);
    return {};
}

/// Rows of a device are in order, the first from one image up.
const shufflenet_device_kernels &DeviceModelState::kernels_for(int images) const {
    const shufflenet_device_kernels *found = kernels.front();
    for (const shufflenet_device_kernels *row : kernels) {
        if (row->from_batch <= images) found = row;
    }
    return *found;
}

bool DeviceModelState::fused(int stage, bool down, int images) const {
    if (options.fusion == DeviceOptions::Fusion::kNever) return false;
    const UnitShape unit = unit_shape(stages[stage], down);
    if (options.fusion == DeviceOptions::Fusion::kAlways) return fused_rows(unit, shared_bytes) > 0;
    return fused_pays(unit, shared_bytes, images, api().units());
}

Status DeviceModelState::enqueue(DevicePointer in, int images, DevicePointer out) noexcept {
    if (options.graph) {
        return guarded("a graph", [&] { return enqueue_graph(in, images, out); });
    }
    DeviceRun run(*this, kernels_for(images));
    return run.chain(*weights, in, images, out) ? Status() : run.error();
}

Status DeviceModelState::enqueue_graph(DevicePointer in, int images, DevicePointer out) {
    for (const Captured &c : graphs) {
        if (c.batch == images && c.input == in && c.logits == out) return api().replay(stream, *c.graph);
    }
    // On a stream of our own, because the caller's may be one that cannot be captured.
    if (Status status = api().begin_capture(own_stream); !status.ok()) return status;
    launcher->use_stream(own_stream);
    DeviceRun run(*this, kernels_for(images));
    const bool ok = run.chain(*weights, in, images, out);
    launcher->use_stream(stream);
    std::unique_ptr<DeviceGraph> graph;
    Status ended = api().end_capture(own_stream, &graph);
    if (!ok) return run.error();
    if (!ended.ok()) return ended;
    constexpr size_t kMostGraphs = 16;
    Captured captured{images, in, out, std::move(graph)};
    const DeviceGraph &made = *captured.graph;
    if (graphs.size() < kMostGraphs) {
        graphs.push_back(std::move(captured));
    } else {
        // It may still run.
        if (Status status = api().synchronize(stream); !status.ok()) return status;
        graphs[next_graph++ % kMostGraphs] = std::move(captured);
    }
    return api().replay(stream, made);
}

Status DeviceModelState::run(std::span<const float> in, int batch, std::span<float> out,
                             std::span<const FeatureRequest> features) {
    const size_t image_floats = size_t{3} * input.pixels();
    const auto classes = static_cast<size_t>(weights->host->classes);
    const bool conv5_wanted =
        std::ranges::any_of(features, [](const auto &f) { return f.feature == Feature::kConv5 && !f.out.empty(); });
    for (int first = 0; first < batch; first += options.max_batch) {
        const int images = std::min(options.max_batch, batch - first);
        const float *from = in.data() + first * image_floats;
        Status status = api().upload(stream, image.get(), from, sizeof(float) * images * image_floats);
        if (status.ok()) status = enqueue(image.get(), images, logits.get());
        if (status.ok() && conv5_wanted) {
            DeviceRun head(*this, kernels_for(images));
            if (!head.conv5(*weights, images)) status = head.error();
        }
        if (status.ok()) {
            float *to = out.data() + first * classes;
            status = api().download(stream, to, logits.get(), sizeof(float) * images * classes);
        }
        for (const FeatureRequest &request : features) {
            if (status.ok() && !request.out.empty()) status = copy_feature(request, first, images);
        }
        // Also after an error: copies of the caller's memory may be under way.
        Status done = api().synchronize(stream);
        if (!status.ok()) return status;
        if (!done.ok()) return done;
    }
    return {};
}

/// From the device's tensor to the request's, in canonical channel order.
Status DeviceModelState::copy_feature(const FeatureRequest &request, int first, int images) {
    const FeatureShape shape = feature_shape(*network, stages, request.feature);
    const int pixels = shape.height * shape.width;
    const bool is_conv5 = request.feature == Feature::kConv5;
    const BlockTensor *tensor = is_conv5 ? nullptr : &blocks[static_cast<int>(request.feature)];
    const Memory &memory = is_conv5 ? conv5 : tensor->memory;
    const int lanes = is_conv5 ? conv5_lanes : tensor->layout.lanes();
    const int64_t image_stride = is_conv5 ? int64_t(pixels) * lanes : tensor->layout.block_stride();
    feature_staging.resize(std::max(feature_staging.size(), memory.bytes() / sizeof(float)));
    Status status = api().download(stream, feature_staging.data(), memory.get(), memory.bytes());
    Status done = api().synchronize(stream);
    if (!status.ok()) return status;
    if (!done.ok()) return done;
    const std::vector<int32_t> &offsets = weights->host->channel_offset[static_cast<int>(request.feature)];
    const int channel_step = request.layout == Layout::kNCHW ? pixels : 1;
    const int pixel_step = request.layout == Layout::kNCHW ? 1 : shape.channels;
    for (int i = 0; i < images; ++i) {
        float *out = request.out.data() + (size_t(first) + i) * shape.elements();
        for (int c = 0; c < shape.channels; ++c) {
            const int64_t offset = is_conv5 ? offsets[c] : tensor->offset(offsets[c]);
            const float *data = feature_staging.data() + offset + i * image_stride;
            for (int p = 0; p < pixels; ++p) out[c * channel_step + p * pixel_step] = data[size_t(p) * lanes];
        }
    }
    return {};
}

DeviceModel::DeviceModel() noexcept = default;
DeviceModel::DeviceModel(DeviceModel &&) noexcept = default;
DeviceModel &DeviceModel::operator=(DeviceModel &&) noexcept = default;
DeviceModel::~DeviceModel() = default;

Status DeviceModel::open(const shufflenet_descriptor &descriptor, const DeviceOptions &options) {
    return guarded("the model", [&]() -> Status {
        auto state = std::make_unique<DeviceModelState>();
        Status status = state->make(descriptor, options, nullptr);
        if (status.ok()) state_ = std::move(state);
        return status;
    });
}

Status DeviceModel::load_weights(std::span<const std::byte> safetensors, const std::string &name) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, name + ": weights " + kBeforeOpen};
        return state_->adopt(safetensors, name);
    });
}

Status DeviceModel::load_weights(const std::string &path) {
    return guarded("weights", [&]() -> Status {
        std::vector<std::byte> bytes;
        if (Status status = read_file(path, &bytes); !status.ok()) return status;
        return load_weights(bytes, path);
    });
}

Status DeviceModel::load_embedded_weights() {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("embedded weights ") + kBeforeOpen};
        const shufflenet_descriptor &d = *state_->descriptor;
        if (d.weights == nullptr) return {Code::kBadInput, std::string(d.name) + ": has no embedded weights"};
        return load_weights(std::as_bytes(std::span(d.weights, d.weights_end)), std::string(d.name) + " (embedded)");
    });
}

Status DeviceModel::share(DeviceModel *other, void *stream) const {
    return guarded("the model", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("share() ") + kBeforeOpen};
        DeviceModel made;
        made.state_ = std::make_unique<DeviceModelState>();
        DeviceOptions options = state_->options;
        options.stream = stream;
        Status status = made.state_->make(*state_->descriptor, options, state_->modules);
        if (!status.ok()) return status;
        if (state_->weights != nullptr) {
            const Entered entered(state_->api());
            status = made.state_->make_logits(state_->weights->host->classes);
            if (status.ok()) status = made.state_->prepare(state_->weights);
        }
        if (status.ok()) *other = std::move(made);
        return status;
    });
}

Status DeviceModel::run(std::span<const float> input, int batch, std::span<float> logits,
                        std::span<const FeatureRequest> features) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("run() ") + kBeforeOpen};
        const DeviceModelState &s = *state_;
        const PackedWeights *weights = s.weights == nullptr ? nullptr : s.weights->host.get();
        const RunShape shape{s.descriptor->name, weights, s.input, &s.stages, s.network};
        Status status = check_run(shape, input.size(), batch, logits.size(), features);
        if (!status.ok()) return status;
        const Entered entered(state_->api());
        return state_->run(input, batch, logits, features);
    });
}

Status DeviceModel::enqueue(DevicePointer input, int batch, DevicePointer logits) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("enqueue() ") + kBeforeOpen};
        if (state_->weights == nullptr) {
            return {Code::kBadInput, std::string(state_->descriptor->name) + ": enqueue() before weights were loaded"};
        }
        if (batch < 1 || batch > state_->options.max_batch) {
            return {Code::kBadInput, "batch: expected 1 to " + std::to_string(state_->options.max_batch) +
                                         " (max_batch), found " + std::to_string(batch)};
        }
        if (input == 0 || logits == 0) return {Code::kBadInput, "enqueue(): expected device memory, found null"};
        const Entered entered(state_->api());
        return state_->enqueue(input, batch, logits);
    });
}

DevicePointer DeviceModel::own_input() const { return state_ == nullptr ? 0 : state_->image.get(); }
DevicePointer DeviceModel::own_logits() const { return state_ == nullptr ? 0 : state_->logits.get(); }

Status DeviceModel::synchronize() noexcept {
    if (state_ == nullptr) return {};
    const Entered entered(state_->api());
    return state_->api().synchronize(state_->stream);
}

FeatureShape DeviceModel::feature_shape(Feature feature) const {
    if (state_ == nullptr) return {};
    return shufflenet::feature_shape(*state_->network, state_->stages, feature);
}
int DeviceModel::classes() const {
    if (state_ == nullptr) return 0;
    return state_->weights != nullptr ? state_->weights->host->classes : state_->descriptor->classes;
}
int DeviceModel::max_batch() const { return state_ == nullptr ? 0 : state_->options.max_batch; }
std::vector<KernelCost> DeviceModel::kernels(int batch) const {
    std::vector<KernelCost> costs;
    if (state_ == nullptr) return costs;
    const auto fused = [&](int number, bool down) { return state_->fused(number - 2, down, batch); };
    for (const DeviceKernel &k : device_kernels(*state_->network, state_->input, classes(), batch, fused)) {
        costs.push_back({std::string(k.id.view()), k.multiply_adds, k.bytes});
    }
    return costs;
}
size_t DeviceModel::activation_bytes() const {
    if (state_ == nullptr) return 0;
    const DeviceModelState &s = *state_;
    size_t bytes = s.stem.memory.bytes();
    for (const BlockTensor &tensor : s.blocks) bytes += tensor.memory.bytes();
    for (const Memory *memory : {&s.image, &s.middle, &s.conv5, &s.pooled, &s.logits}) bytes += memory->bytes();
    return bytes;
}
std::string DeviceModel::device_name() const { return state_ == nullptr ? "" : state_->api().name(); }

std::string compiled_devices(const shufflenet_descriptor &descriptor) {
    std::string names;
    if (!check_abi(descriptor).ok()) return names;
    for (int i = 0; i < descriptor.device_kernels_count; ++i) {
        if (descriptor.device_kernels[i].from_batch > 1) continue;
        names += (names.empty() ? "" : ",") + std::string(descriptor.device_kernels[i].device);
    }
    return names;
}

}  // namespace shufflenet
