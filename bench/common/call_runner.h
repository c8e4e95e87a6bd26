// The calls of a program one by one, as the runtime makes them: what is timed where a whole run says too little.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "networks/program.h"
#include "runtime/src/batch_run.h"
#include "runtime/src/pack.h"
#include "workload.h"

namespace shufflenet::bench {

/// Memory of one image, and threads. A call finds in the arena what the calls before it left there, so that all are run
/// in order once before one of them is timed alone.
class CallRunner {
  public:
    /// What `callee` points to and `image` outlive the runner. Throws std::runtime_error or std::bad_alloc.
    CallRunner(const Callee &callee, std::span<const float> image, int threads, size_t scratch_bytes);

    std::span<const shufflenet_call> calls() const {
        return {callee_.program->calls, size_t(callee_.program->calls_count)};
    }
    /// Throws std::runtime_error where the kernel reports an error.
    void run(int call);
    void run_all();

    /// Activations, and after them the image's row for last linear layers.
    std::span<float> memory() { return {arena_.activations.data(), arena_.activations.size()}; }
    std::span<float> row();
    /// Of the image: each output as NCHW.
    std::vector<std::vector<float>> outputs();

    ThreadPool &pool() { return pool_; }
    /// Of a thread.
    std::vector<Scratch> &scratch() { return scratch_; }

  private:
    Callee callee_;
    std::span<const float> image_;
    Arena arena_;
    std::vector<AlignedArray<std::byte>> scratch_memory_;
    std::vector<Scratch> scratch_;
    std::vector<std::vector<float>> written_;  ///< Of each output that calls write.
    ThreadPool pool_;
    KernelError error_;
    KernelContext context_{.error = &error_};
};

/// A verified program in calls.
class ProgramCalls {
  public:
    /// `compiled`: the same program as the runtime has it. The first two outlive the object. Throws std::runtime_error
    /// where the library reports an error or an output is wrong.
    ProgramCalls(const networks::Program &program, const shufflenet_program &compiled,
                 const shufflenet_kernels &kernels, const RandomNetwork &network, int threads);
    ProgramCalls(const ProgramCalls &) = delete;
    ProgramCalls &operator=(const ProgramCalls &) = delete;

    CallRunner &runner() { return *runner_; }
    const char *isa() const { return kernels_.isa; }
    const networks::Program &program() const { return program_; }
    /// The worst error of an output, as a share of its range.
    double error() const { return error_; }

    /// What a call costs at least: multiply-adds, and bytes of inputs, output and weights, once each.
    double flops(int call) const;
    double bytes(int call) const;

    /// Takes a call's weights out of the caches, as the rest of a network does.
    void evict_weights(int call) const;

  private:
    const networks::Program &program_;
    const shufflenet_kernels &kernels_;
    PackedWeights weights_;
    std::unique_ptr<CallRunner> runner_;
    double error_ = 0;
};

/// The same of a compiled model, by the kernels that it would use here.
class ModelCalls {
  public:
    ModelCalls(const Workload &workload, int threads);
    ProgramCalls &calls() { return *calls_; }

  private:
    networks::Program program_;
    std::unique_ptr<ProgramCalls> calls_;
};

/// Multiply-adds, and elements of the tensors that layers read, of what the last one computes, and of all weights, once
/// each.
int64_t flops_of(const networks::Graph &graph, const std::vector<int> &layers);
int64_t elements_of(const networks::Graph &graph, const std::vector<int> &layers);

}  // namespace shufflenet::bench
