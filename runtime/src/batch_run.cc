#include "batch_run.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "log.h"
#include "networks/size.h"

namespace shufflenet::inline SHUFFLENET_ABI {

bool Arena::allocate(size_t floats, size_t scratch_bytes) {
    const size_t bytes = floats * sizeof(float);
    if (!pages.map(HugePages::room(bytes) + HugePages::room(scratch_bytes))) {
        return activations.allocate(floats) && scratch.allocate(scratch_bytes);
    }
    activations.place(pages.take(bytes), floats);
    scratch.place(pages.take(scratch_bytes), scratch_bytes);
    return true;
}

int ModelState::classes() const {
    const PackedWeights *loaded = classes_output >= 0 ? weights.get() : nullptr;
    return loaded != nullptr ? loaded->classes : descriptor->classes;
}

namespace {

/// For the log: an image's calls, summed by what their ids have before the first '_'.
class CallTimes {
  public:
    void add(std::string_view id, double ms) noexcept {
        const std::string_view part = id.substr(0, id.find('_'));
        if (part != part_) end();
        part_ = part;
        ms_ += ms;
    }
    /// "stem 0.123, stage2 0.456"
    const char *text() noexcept {
        end();
        return text_.data();
    }

  private:
    void end() noexcept {
        if (part_.empty()) return;
        const int written = std::snprintf(text_.data() + size_, text_.size() - size_, "%s%.*s %.3f",
                                          size_ > 0 ? ", " : "", static_cast<int>(part_.size()), part_.data(), ms_);
        size_ = std::min(size_ + static_cast<size_t>(std::max(written, 0)), text_.size() - 1);
        part_ = {};
        ms_ = 0;
    }
    std::array<char, 800> text_{};
    size_t size_ = 0;
    std::string_view part_;
    double ms_ = 0;
};

/// Groups of images share one pass over the weights of last linear layers; within a group whole images go to threads
/// while there is one for each, and the threads share the images that are left.
class BatchRun {
  public:
    BatchRun(ModelState &model, const float *input, std::span<const OutputRequest> outputs) noexcept
        : m_(model),
          shape_(model.shape()),
          callee_{&model.program(), model.kernels, model.weights.get()},
          input_(input),
          outputs_(outputs) {
        shared_.pool = &m_.pool;
        shared_.scratch = m_.scratch.data();
    }

    Status run(int batch) {
        LogTimer timer;
        batch_ = batch;
        m_.last_arena = nullptr;
        set_targets();
        for (int first = 0; first < batch; first += kImageGroup) {
            if (!run_group(first, std::min(kImageGroup, batch - first))) return error();
        }
        copy_twice_wanted();
        m_.last_arena = last_;
        log_debug("%s: run, batch %d, %d threads: %.3f ms", name(), batch, m_.pool.threads(), timer.lap());
        return {};
    }

  private:
    bool in_arena(int output) const { return program().outputs[output].offsets != nullptr; }

    /// Calls write straight to who wants an output first.
    void set_targets() noexcept {
        std::fill(m_.targets.begin(), m_.targets.end(), nullptr);
        for (const OutputRequest &request : outputs_) {
            float *&target = m_.targets[shape_.find(request.name)];
            if (target == nullptr && !request.out.empty()) target = request.out.data();
        }
    }

    void copy_twice_wanted() noexcept {
        for (const OutputRequest &request : outputs_) {
            const int output = shape_.find(request.name);
            const float *written = m_.targets[output];
            if (in_arena(output) || request.out.empty() || request.out.data() == written) continue;
            std::copy_n(written, request.out.size(), request.out.data());
        }
    }

    bool run_group(int first, int images) noexcept {
        const int threads = m_.pool.active();
        const int apart = threads > 1 && images >= threads ? images / threads * threads : 0;
        first_ = first;
        next_ = 0;
        if (apart > 0) m_.pool.run(apart, run_apart, this);
        for (int i = apart; i < images && !failed(); ++i) run_image(i, 0, shared_);
        for (int i = program().image_calls; i < program().calls_count && !failed(); ++i) run_group_call(i, images);
        return !failed();
    }

    /// An image on one thread alone. Images start in order, whichever task comes first: who takes the last one finds
    /// no other, and leaves it in its arena, where views look.
    static void run_apart(void *argument, int /*task*/, int thread) {
        auto *batch = static_cast<BatchRun *>(argument);
        if (batch->failed()) return;
        const int image = batch->next_.fetch_add(1, std::memory_order_relaxed);
        KernelError error;
        KernelContext alone{.scratch = &batch->m_.scratch[thread], .error = &error};
        batch->run_image(image, thread, alone);
    }

    void run_image(int image, int thread, KernelContext &context) noexcept {
        const size_t number = size_t(first_) + image;
        float *arena = m_.arenas[thread].activations.data();
        const ImageMemory memory{input_ + number * shape_.image(), static_cast<int>(shape_.image()), arena, row(image)};
        const std::span calls(program().calls, program().image_calls);
        if (logging()) {
            if (!run_timed(calls, memory, number, thread, context)) return;
        } else {
            for (const shufflenet_call &call : calls) {
                if (!call_for_image(callee_, call, memory, context)) return fail(call, context);
            }
        }
        copy_outputs(number, arena);
        if (number + 1 == size_t(batch_)) last_ = arena;
    }

    bool run_timed(std::span<const shufflenet_call> calls, const ImageMemory &memory, size_t number, int thread,
                   KernelContext &context) noexcept {
        LogTimer timer;
        CallTimes times;
        for (const shufflenet_call &call : calls) {
            if (!call_for_image(callee_, call, memory, context)) {
                fail(call, context);
                return false;
            }
            times.add(call.id, timer.lap());
        }
        log_debug("%s: image %zu, thread %d: %s ms", name(), number, thread, times.text());
        return true;
    }

    void copy_outputs(size_t number, const float *arena) noexcept {
        for (const OutputRequest &request : outputs_) {
            const int output = shape_.find(request.name);
            if (request.out.empty() || !in_arena(output)) continue;
            float *out = request.out.data() + number * shape_.shape(output).elements();
            copy_output(program().outputs[output], arena, request.layout, out);
        }
    }

    void run_group_call(int number, int images) noexcept {
        const shufflenet_call &call = program().calls[number];
        float *target = m_.targets[call.out];
        if (target == nullptr) return;
        LogTimer timer;
        const int classes = shape_.shape(call.out).channels;
        float *out = target + size_t(first_) * classes;
        if (!call_for_group(callee_, call, row(0), images, classes, out, shared_)) fail(call, shared_);
        log_debug("%s: %s, batch %d: %.3f ms", name(), call.id, images, timer.lap());
    }

    /// Of the group's images, in the first thread's arena.
    float *row(int image) const {
        const int arena = round_up(program().arena_floats, kLineFloats);
        return m_.arenas[0].activations.data() + arena + size_t(image) * program().row_floats;
    }

    const shufflenet_program &program() const { return *callee_.program; }
    const char *name() const { return m_.descriptor->name; }
    bool failed() const { return failed_.load(); }
    void fail(const shufflenet_call &call, const KernelContext &context) noexcept {
        if (failed_.exchange(true)) return;
        failed_call_ = &call;
        message_ = context.error->message;
    }
    Status error() const {
        return {Code::kInternal, std::string(name()) + ": " + failed_call_->id + ": " + message_.data()};
    }

    ModelState &m_;
    const RunShape shape_;
    const Callee callee_;
    const float *input_;
    std::span<const OutputRequest> outputs_;
    int batch_ = 0, first_ = 0;
    std::atomic<int> next_{0};  ///< Image of the group that starts next.
    KernelError shared_error_;
    KernelContext shared_{.error = &shared_error_};
    std::atomic<bool> failed_{false};
    const shufflenet_call *failed_call_ = nullptr;
    std::array<char, 512> message_{};
    const float *last_ = nullptr;
};

}  // namespace

Status run_batch(ModelState &model, std::span<const float> input, int batch, std::span<const OutputRequest> outputs) {
    return BatchRun(model, input.data(), outputs).run(batch);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
