#include "shufflenet/device.h"

#include <algorithm>
#include <new>
#include <vector>

#include "abi.h"
#include "device_run.h"
#include "message.h"
#include "networks/devices.h"
#include "networks/panels.h"
#include "run_check.h"
#include "safetensors.h"
#include "shufflenet/descriptor.h"
#include "signals_blocked.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

using message::guarded;

const char *const kBeforeOpen = "of a model that is not open";

/// Of each of an output's channels the plane, in floats from the arena's beginning; each plane once, in order.
std::vector<int32_t> planes_of(const shufflenet_output &output) {
    std::vector<int32_t> planes;
    for (int c = 0; c < output.channels; ++c) planes.push_back(output.offsets[c] / kPanelFloats * kPanelFloats);
    std::ranges::sort(planes);
    planes.erase(std::unique(planes.begin(), planes.end()), planes.end());
    return planes;
}

}  // namespace

/// What a DeviceModel object holds.
struct DeviceModelState {
    const shufflenet_descriptor *descriptor = nullptr;
    const shufflenet_device *device = nullptr;
    DeviceOptions options;
    int classes_output = -1;  ///< See checkpoint.h.

    std::shared_ptr<DeviceModules> modules;
    std::shared_ptr<const DeviceWeights> weights;
    void *stream = nullptr;
    /// Made by this model: the stream, if none was given; and one to capture graphs on.
    void *own_stream = nullptr;
    std::unique_ptr<DeviceLauncher> launcher;

    DeviceArena arena;
    DeviceMemory image, result;
    int result_classes = 0;
    std::vector<float> planes;  ///< Of an output, on the host.

    struct Captured {
        int batch;
        DevicePointer input, out;
        std::unique_ptr<DeviceGraph> graph;
    };
    std::vector<Captured> graphs;
    size_t next_graph = 0;

    DeviceModelState() = default;
    ~DeviceModelState();
    DeviceModelState(const DeviceModelState &) = delete;
    DeviceModelState &operator=(const DeviceModelState &) = delete;

    DeviceApi &api() const { return modules->api(); }
    const shufflenet_program &program() const { return *device->program; }
    int classes() const;
    RunShape shape() const { return {descriptor, &program(), classes_output, classes()}; }
    int64_t image_floats() const { return int64_t(shape().image()) * options.max_batch; }

    Status make(const shufflenet_descriptor &d, const DeviceOptions &o, std::shared_ptr<DeviceModules> given);
    Status choose(const shufflenet_descriptor &d);
    Status make_streams(void *given);
    Status allocate();
    Status make_result(int classes);
    Status prepare(std::shared_ptr<const DeviceWeights> with);
    Status adopt(std::shared_ptr<const PackedWeights> packed);
    Status pack(const Safetensors &tensors, const std::string &name);
    Status load_embedded();

    const shufflenet_kernel *kernels_for(int images) const;
    DeviceRun run_of(const shufflenet_kernel *kernels) const { return {*device, kernels, *launcher, stream, arena}; }
    Status enqueue(DevicePointer in, int images, DevicePointer out) noexcept;
    Status enqueue_graph(DevicePointer in, int images, DevicePointer out);
    Status run(std::span<const float> in, int batch, std::span<const OutputRequest> outputs);
    Status run_piece(std::span<const float> in, int first, int images, std::span<const OutputRequest> outputs);
    Status read(const OutputRequest &request, int first, int images);
    Status read_planes(const OutputRequest &request, int number, int first, int images);
};

DeviceModelState::~DeviceModelState() {
    if (modules == nullptr) return;
    const EnteredToRelease entered(api());
    if (stream != nullptr && entered.status().ok()) (void)api().synchronize(stream);
    graphs.clear();
    arena = {};
    image = {};
    result = {};
    if (own_stream != nullptr) api().release_stream(own_stream);
    if (stream != own_stream) api().release_hold(stream);
    launcher.reset();
    weights.reset();
}

int DeviceModelState::classes() const {
    return weights != nullptr && classes_output >= 0 ? weights->packed().classes : descriptor->classes;
}

Status DeviceModelState::choose(const shufflenet_descriptor &d) {
    descriptor = &d;
    if (options.max_batch < 1 || options.max_batch > kMostImages) {
        return {Code::kBadInput, "max_batch: expected 1 to " + std::to_string(kMostImages) + ", found " +
                                     std::to_string(options.max_batch)};
    }
    if (find_device(options.device) == nullptr) {
        return {Code::kBadInput, "device: expected cuda or opencl, found " + options.device};
    }
    for (const shufflenet_device &one : std::span(d.devices, size_t(d.devices_count))) {
        if (options.device == one.device) device = &one;
    }
    if (device == nullptr) {
        const std::string devices = compiled_devices(d);
        return {Code::kUnsupported, std::string(d.name) + ": was compiled without kernels for " + options.device +
                                        (devices.empty() ? ", for the CPU only" : ", for " + devices)};
    }
    classes_output = shufflenet::classes_output(program());
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
    if (!entered.status().ok()) return entered.status();
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
    if (given != nullptr) api().hold_stream(given);
    return {};
}

Status DeviceModelState::allocate() {
    if (Status status = arena.allocate(api(), stream, program(), options.max_batch); !status.ok()) return status;
    if (Status status = image.allocate(api(), stream, image_floats()); !status.ok()) return status;
    if (Status status = make_result(descriptor->classes); !status.ok()) return status;
    return api().synchronize(stream);
}

Status DeviceModelState::make_result(int classes) {
    if (classes_output < 0 || classes <= result_classes) return {};
    DeviceMemory larger;
    if (Status s = larger.allocate(api(), stream, int64_t{options.max_batch} * classes); !s.ok()) return s;
    graphs.clear();  // They write to the old one.
    result = std::move(larger);
    result_classes = classes;
    return {};
}

Status DeviceModelState::pack(const Safetensors &tensors, const std::string &name) {
    auto packed = std::make_shared<PackedWeights>();
    Status status = pack_weights(tensors, name, descriptor->network, program(), packed.get());
    return status.ok() ? adopt(std::move(packed)) : status;
}

/// Those that are embedded packed are so for the CPU.
Status DeviceModelState::load_embedded() {
    const shufflenet_descriptor &d = *descriptor;
    if (d.packed != nullptr) {
        auto packed = std::make_shared<PackedWeights>();
        repack_weights(*d.program, d.packed, program(), packed.get());
        packed->classes = d.classes;
        return adopt(std::move(packed));
    }
    if (d.weights == nullptr) return {Code::kBadInput, std::string(d.name) + ": has no embedded weights"};
    const std::string name = std::string(d.name) + " (embedded)";
    Safetensors tensors;
    Status status = Safetensors::parse(std::as_bytes(std::span(d.weights, d.weights_end)), name, &tensors);
    return status.ok() ? pack(tensors, name) : status;
}

Status DeviceModelState::adopt(std::shared_ptr<const PackedWeights> packed) {
    const int classes = packed->classes;
    auto made = std::make_shared<DeviceWeights>(modules);
    const Entered entered(api());
    if (!entered.status().ok()) return entered.status();
    Status status = made->upload(*device, options.max_batch, std::move(packed), stream);
    // Also after an error, since copies of host memory may be under way.
    Status done = api().synchronize(stream);
    if (!status.ok()) return status;
    if (!done.ok()) return done;
    status = make_result(classes);
    if (!status.ok()) return status;
    graphs.clear();  // They read the old ones.
    return prepare(std::move(made));
}

/// Makes all kernels now, so that no run has to, and then takes the weights.
Status DeviceModelState::prepare(std::shared_ptr<const DeviceWeights> with) {
    launcher->begin_preparing();
    Status status;
    for (int i = 0; i < device->variants_count && status.ok(); ++i) {
        DeviceRun run = run_of(device->kernels[i]);
        if (!run.chain(*with, image.get(), image_floats(), 1, result.get())) {
            status = run.error(descriptor->name, options.device);
        }
    }
    if (Status prepared = launcher->end_preparing(); !prepared.ok()) return prepared;
    if (!status.ok()) return status;
    weights = std::move(with);
    return {};
}

/// Variants are in order, the first from one image up.
const shufflenet_kernel *DeviceModelState::kernels_for(int images) const {
    int found = 0;
    for (int i = 1; i < device->variants_count; ++i) {
        if (device->from_batch[i] <= images) found = i;
    }
    return device->kernels[found];
}

Status DeviceModelState::enqueue(DevicePointer in, int images, DevicePointer out) noexcept {
    if (options.graph) {
        return guarded("a graph", [&] { return enqueue_graph(in, images, out); });
    }
    DeviceRun run = run_of(kernels_for(images));
    const bool ok = run.chain(*weights, in, int64_t(shape().image()) * images, images, out);
    return ok ? Status() : run.error(descriptor->name, options.device);
}

Status DeviceModelState::enqueue_graph(DevicePointer in, int images, DevicePointer out) {
    for (const Captured &c : graphs) {
        if (c.batch == images && c.input == in && c.out == out) return api().replay(stream, *c.graph);
    }
    // On a stream of our own, because the caller's may be one that cannot be captured.
    if (Status status = api().begin_capture(own_stream); !status.ok()) return status;
    launcher->use_stream(own_stream);
    DeviceRun run = run_of(kernels_for(images));
    const bool ok = run.chain(*weights, in, int64_t(shape().image()) * images, images, out);
    launcher->use_stream(stream);
    std::unique_ptr<DeviceGraph> graph;
    Status ended = api().end_capture(own_stream, &graph);
    if (!ok) return run.error(descriptor->name, options.device);
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

Status DeviceModelState::run(std::span<const float> in, int batch, std::span<const OutputRequest> outputs) {
    for (int first = 0; first < batch; first += options.max_batch) {
        Status status = run_piece(in, first, std::min(options.max_batch, batch - first), outputs);
        // Also after an error: copies of the caller's memory may be under way.
        Status done = api().synchronize(stream);
        if (!status.ok()) return status;
        if (!done.ok()) return done;
    }
    return {};
}

Status DeviceModelState::run_piece(std::span<const float> in, int first, int images,
                                   std::span<const OutputRequest> outputs) {
    const size_t floats = shape().image();
    Status status = api().upload(stream, image.get(), in.data() + first * floats, sizeof(float) * images * floats);
    if (status.ok()) status = enqueue(image.get(), images, result.get());
    for (const OutputRequest &request : outputs) {
        if (status.ok() && !request.out.empty()) status = read(request, first, images);
    }
    return status;
}

Status DeviceModelState::read(const OutputRequest &request, int first, int images) {
    const int number = shape().find(request.name);
    if (program().outputs[number].offsets != nullptr) return read_planes(request, number, first, images);
    float *out = request.out.data() + size_t(first) * classes();
    return api().download(stream, out, result.get(), 0, sizeof(float) * images * classes());
}

Status DeviceModelState::read_planes(const OutputRequest &request, int number, int first, int images) {
    const shufflenet_output &output = program().outputs[number];
    const std::vector<int32_t> offsets = planes_of(output);
    const OutputShape shape = this->shape().shape(number);
    const int pixels = shape.height * shape.width;
    const size_t image_floats = size_t(pixels) * kPanelFloats, plane_floats = image_floats * images;
    planes.resize(std::max(planes.size(), plane_floats * offsets.size()));
    Status status;
    for (size_t i = 0; i < offsets.size() && status.ok(); ++i) {
        const size_t from = sizeof(float) * offsets[i] * size_t(arena.images);
        status =
            api().download(stream, &planes[i * plane_floats], arena.arena.get(), from, sizeof(float) * plane_floats);
    }
    Status done = api().synchronize(stream);
    if (!status.ok()) return status;
    if (!done.ok()) return done;
    const int channel_step = request.layout == Layout::kNCHW ? pixels : 1;
    const int pixel_step = request.layout == Layout::kNCHW ? 1 : shape.channels;
    for (int c = 0; c < shape.channels; ++c) {
        const int lane = output.offsets[c] % kPanelFloats;
        const auto plane = std::ranges::lower_bound(offsets, output.offsets[c] - lane) - offsets.begin();
        for (int i = 0; i < images; ++i) {
            const float *from = &planes[plane * plane_floats + i * image_floats] + lane;
            float *to = request.out.data() + (size_t(first) + i) * shape.elements() + size_t(c) * channel_step;
            for (int p = 0; p < pixels; ++p) to[size_t(p) * pixel_step] = from[size_t(p) * kPanelFloats];
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
        const SignalsBlocked of_the_drivers_threads;
        auto state = std::make_unique<DeviceModelState>();
        Status status = state->make(descriptor, options, nullptr);
        if (status.ok()) state_ = std::move(state);
        return status;
    });
}

Status DeviceModel::load_weights(std::span<const std::byte> safetensors, const std::string &name) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, name + ": weights " + kBeforeOpen};
        const SignalsBlocked of_the_drivers_threads;
        Safetensors tensors;
        if (Status status = Safetensors::parse(safetensors, name, &tensors); !status.ok()) return status;
        return state_->pack(tensors, name);
    });
}

Status DeviceModel::load_weights(const std::string &path) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, path + ": weights " + kBeforeOpen};
        Safetensors tensors;
        if (Status status = Safetensors::open(path, &tensors); !status.ok()) return status;
        return state_->pack(tensors, path);
    });
}

Status DeviceModel::load_embedded_weights() {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("embedded weights ") + kBeforeOpen};
        const SignalsBlocked of_the_drivers_threads;
        return state_->load_embedded();
    });
}

Status DeviceModel::share(DeviceModel *other, void *stream) const {
    return guarded("the model", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("share() ") + kBeforeOpen};
        const SignalsBlocked of_the_drivers_threads;
        DeviceModel made;
        made.state_ = std::make_unique<DeviceModelState>();
        DeviceOptions options = state_->options;
        options.stream = stream;
        Status status = made.state_->make(*state_->descriptor, options, state_->modules);
        if (!status.ok()) return status;
        if (state_->weights != nullptr) {
            const Entered entered(state_->api());
            status = entered.status();
            if (status.ok()) status = made.state_->make_result(state_->classes());
            if (status.ok()) status = made.state_->prepare(state_->weights);
        }
        if (status.ok()) *other = std::move(made);
        return status;
    });
}

Status DeviceModel::run(std::span<const float> input, int batch, std::span<const OutputRequest> outputs) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("run() ") + kBeforeOpen};
        Status status = check_run(state_->shape(), state_->weights != nullptr, input.size(), batch, outputs);
        if (!status.ok()) return status;
        const Entered entered(state_->api());
        return entered.status().ok() ? state_->run(input, batch, outputs) : entered.status();
    });
}

Status DeviceModel::run(std::span<const float> input, int batch, std::span<float> out) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("run() ") + kBeforeOpen};
        const OutputRequest first{state_->program().outputs[0].name, Layout::kNCHW, out};
        Status status = check_run(state_->shape(), state_->weights != nullptr, input.size(), batch, {&first, 1});
        // No memory is not wanting the output here.
        if (status.ok()) status = check_output(state_->shape(), 0, batch, out.size());
        if (!status.ok()) return status;
        const Entered entered(state_->api());
        return entered.status().ok() ? state_->run(input, batch, {&first, 1}) : entered.status();
    });
}

Status DeviceModel::enqueue(DevicePointer input, int batch, DevicePointer out) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, std::string("enqueue() ") + kBeforeOpen};
        const std::string name = state_->descriptor->name;
        if (state_->weights == nullptr) return {Code::kBadInput, name + ": enqueue() before weights were loaded"};
        if (state_->classes_output < 0) {
            return {Code::kUnsupported,
                    name + ": enqueue(): the model has no last linear layer: its outputs are run()'s"};
        }
        if (batch < 1 || batch > state_->options.max_batch) {
            return {Code::kBadInput, "batch: expected 1 to " + std::to_string(state_->options.max_batch) +
                                         " (max_batch), found " + std::to_string(batch)};
        }
        if (input == 0 || out == 0) return {Code::kBadInput, "enqueue(): expected device memory, found null"};
        const Entered entered(state_->api());
        return entered.status().ok() ? state_->enqueue(input, batch, out) : entered.status();
    });
}

DevicePointer DeviceModel::own_input() const { return state_ == nullptr ? 0 : state_->image.get(); }
DevicePointer DeviceModel::own_output() const { return state_ == nullptr ? 0 : state_->result.get(); }

Status DeviceModel::synchronize() noexcept {
    if (state_ == nullptr) return {};
    return guarded("an error message", [&]() -> Status {
        const Entered entered(state_->api());
        return entered.status().ok() ? state_->api().synchronize(state_->stream) : entered.status();
    });
}

OutputShape DeviceModel::output_shape(std::string_view name) const {
    if (state_ == nullptr) return {};
    const int output = state_->shape().find(name);
    return output < 0 ? OutputShape{} : state_->shape().shape(output);
}
std::vector<OutputInfo> DeviceModel::outputs() const {
    return state_ == nullptr ? std::vector<OutputInfo>() : state_->shape().infos();
}
int DeviceModel::classes() const { return state_ == nullptr ? 0 : state_->classes(); }
int DeviceModel::max_batch() const { return state_ == nullptr ? 0 : state_->options.max_batch; }

std::vector<KernelCost> DeviceModel::kernels(int batch) const {
    std::vector<KernelCost> costs;
    if (state_ == nullptr) return costs;
    const shufflenet_program &program = state_->program();
    const int built = std::max(state_->descriptor->classes, 1);
    for (int i = 0; i < program.calls_count; ++i) {
        const shufflenet_call &call = program.calls[i];
        const shufflenet_cost &cost = state_->device->costs[i];
        const bool rows = program.shapes[call.kernel].in == SHUFFLENET_ROWS;
        // As many classes as the weights have.
        const int64_t multiply_adds = rows ? cost.multiply_adds / built * state_->classes() : cost.multiply_adds;
        const int64_t weights = int64_t{sizeof(float)} * program.shapes[call.kernel].weights;
        costs.push_back({call.id, batch * multiply_adds, batch * cost.bytes + weights});
    }
    return costs;
}

size_t DeviceModel::activation_bytes() const {
    if (state_ == nullptr) return 0;
    return state_->arena.bytes() + state_->image.bytes() + state_->result.bytes();
}
std::string DeviceModel::device_name() const { return state_ == nullptr ? "" : state_->api().name(); }

std::string compiled_devices(const shufflenet_descriptor &descriptor) {
    std::string names;
    if (!check_abi(descriptor).ok()) return names;
    for (const shufflenet_device &device : std::span(descriptor.devices, size_t(descriptor.devices_count))) {
        names += (names.empty() ? "" : ",") + std::string(device.device);
    }
    return names;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
