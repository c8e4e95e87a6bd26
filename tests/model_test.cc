// The public API of a model: errors, instruction sets, threads, sharing, no allocation in run().
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

#include "allocation_count.h"
#include "cifar10_x0_5.h"
#include "emulated.h"
#include "expected.h"
#include "huge_pages.h"
#include "model_cases.h"
#include "pack.h"
#include "reference/random_weights.h"
#include "safetensors.h"
#include "shufflenet/c_interface.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

const shufflenet_descriptor &model_named(std::string_view name) {
    for (const shufflenet_descriptor *model : kTestModels) {
        if (name == model->name) return *model;
    }
    throw std::invalid_argument("no such test model");
}

/// With weights, and logits alone.
const shufflenet_descriptor &cifar() { return model_named("cifar10_x0_5"); }
/// With features beside the logits.
const shufflenet_descriptor &featured() { return model_named("x0_5_33x47"); }

std::vector<float> input_for(const shufflenet_descriptor &d, int batch, uint64_t seed = 3) {
    return reference::random_input({d.height, d.width}, batch, seed);
}

/// Opened, with weights: embedded ones, or random ones.
Model ready(const shufflenet_descriptor &d, int threads = 1) {
    Model model;
    EXPECT_EQ(model.open(d, threads).message(), "");
    const bool embedded = describe(d).embedded_weights;
    const Status loaded = embedded ? model.load_embedded_weights()
                                   : model.load_weights(reference::random_safetensors(graph_of(d), 1), "random");
    EXPECT_EQ(loaded.message(), "");
    return model;
}

/// What the model was compiled for, best last.
std::vector<const char *> compiled_isas() {
    std::vector<const char *> isas;
    for (int i = 0; i < cifar().kernels_count; ++i) isas.push_back(cifar().kernels[i].isa);
    return isas;
}

/// An instruction set that the model was compiled for and this CPU does not have, or nullptr.
const char *missing_isa() {
    for (const char *isa : compiled_isas()) {
        if (!cpu_has(isa)) return isa;
    }
    return nullptr;
}

/// Logits of an image with weights of a file.
std::vector<float> logits_of(const char *name, const std::vector<std::byte> &weights) {
    const shufflenet_descriptor &d = model_named(name);
    Model model;
    EXPECT_EQ(model.open(d).message(), "");
    EXPECT_EQ(model.load_weights(weights, "random").message(), "");
    std::vector<float> logits(model.classes());
    EXPECT_EQ(model.run(input_for(d, 1), 1, logits).message(), "");
    return logits;
}

TEST(ClassifierOf16Bits, IsNearTheOneOfFloats) {
    for (const int classes : {1000, 10, 65}) {
        networks::Graph graph = graph_of(model_named("prime_32x32"));
        graph.layers.back().out_channels = classes;
        const std::vector<std::byte> file = reference::random_safetensors(graph, 1);
        const std::vector<float> found = logits_of("prime_32x32_16bits", file), exact = logits_of("prime_32x32", file);
        float range = 0, most = 0;
        for (size_t i = 0; i < exact.size(); ++i) {
            range = std::max(range, std::abs(exact[i]));
            most = std::max(most, std::abs(found[i] - exact[i]));
        }
        EXPECT_GT(most, 0) << classes;
        // A weight is off by 2^-16 of its class's greatest at most, and such errors of either sign add up as weights
        // do.
        EXPECT_LE(most, range * 0x1p-14F) << classes;
    }
}

TEST(Isa, BestOfTheCpuIsChosen) {
    std::string isa;
    ASSERT_TRUE(chosen_isa(cifar(), &isa).ok());
    std::string best;
    for (const char *compiled : compiled_isas()) {
        if (cpu_has(compiled)) best = compiled;
    }
    // Which kind of AVX-512 is told apart below.
    EXPECT_EQ(isa.substr(0, isa.find("x2")), best.substr(0, best.find("x2")));
}

TEST(Isa, UnitsByProcessor) {
    struct Row {
        const char *processor;
        CpuIdentity cpu;
        int units;
    };
    constexpr bool kAmx = true;
    for (const Row &row : {
             Row{"Zen 4, EPYC 9004", {"AuthenticAMD", 0x19, 0x11, false}, 1},
             Row{"Zen 4, Ryzen 7000", {"AuthenticAMD", 0x19, 0x61, false}, 1},
             Row{"Zen 5, EPYC 9005", {"AuthenticAMD", 0x1a, 0x02, false}, 2},
             Row{"Zen 5, Ryzen 9000", {"AuthenticAMD", 0x1a, 0x44, false}, 2},
             Row{"Zen 5, Strix Point", {"AuthenticAMD", 0x1a, 0x24, false}, 1},
             Row{"Zen 5, Strix Halo", {"AuthenticAMD", 0x1a, 0x70, false}, 2},
             Row{"Skylake, Cascade Lake", {"GenuineIntel", 6, 0x55, false}, 2},
             Row{"Ice Lake, servers", {"GenuineIntel", 6, 0x6a, false}, 2},
             Row{"Ice Lake, clients", {"GenuineIntel", 6, 0x7e, false}, 1},
             Row{"Tiger Lake", {"GenuineIntel", 6, 0x8c, false}, 1},
             Row{"Rocket Lake", {"GenuineIntel", 6, 0xa7, false}, 1},
             Row{"a virtual machine that shows Rocket Lake's model", {"GenuineIntel", 6, 0xa7, kAmx}, 2},
             Row{"Sapphire Rapids", {"GenuineIntel", 6, 0x8f, kAmx}, 2},
             Row{"a processor of tomorrow", {"GenuineIntel", 19, 1, false}, 2},
         }) {
        EXPECT_EQ(fma512_units(row.cpu), row.units) << row.processor;
    }
}

TEST(Isa, IdentityFromCpuid) {
    struct Row {
        const char *processor;
        unsigned signature, features;
        int family, model;
        bool amx;
    };
    for (const Row &row : {
             Row{"EPYC 9004", 0x00a10f11, 0, 0x19, 0x11, false},
             Row{"EPYC 9005", 0x00b00f21, 0, 0x1a, 0x02, false},
             Row{"Sapphire Rapids", 0x000806f8, 1U << 24, 6, 0x8f, true},
             Row{"Skylake server", 0x00050654, 0xbc000400, 6, 0x55, false},
         }) {
        const CpuIdentity found = cpu_identity("a vendor", row.signature, row.features);
        EXPECT_EQ(found.vendor, "a vendor");
        EXPECT_EQ(found.family, row.family) << row.processor;
        EXPECT_EQ(found.model, row.model) << row.processor;
        EXPECT_EQ(found.amx, row.amx) << row.processor;
    }
}

TEST(Isa, KindOfAvx512ByUnits) {
    if (!cpu_has("avx512")) GTEST_SKIP() << "this CPU does not have avx512";
    struct Row {
        std::vector<const char *> compiled;
        int units;
        std::string chosen;
    };
    for (const Row &row : {
             Row{{"avx2", "avx512", "avx512x2"}, 1, "avx512"},
             Row{{"avx2", "avx512", "avx512x2"}, 2, "avx512x2"},
             Row{{"avx2", "avx512"}, 2, "avx512"},
             Row{{"avx2", "avx512x2"}, 1, "avx512x2"},
             Row{{"avx2"}, 2, "avx2"},
         }) {
        std::vector<shufflenet_kernels> kernels(row.compiled.size());
        for (size_t i = 0; i < kernels.size(); ++i) kernels[i].isa = row.compiled[i];
        shufflenet_descriptor d = cifar();
        d.kernels = kernels.data();
        d.kernels_count = static_cast<int>(kernels.size());
        const shufflenet_kernels *chosen = nullptr;
        ASSERT_TRUE(choose_kernels_for(row.units, d, &chosen).ok());
        EXPECT_EQ(chosen->isa, row.chosen) << isa_names(d) << " on " << row.units;
        // Who names one gets it.
        for (const char *isa : row.compiled) {
            const ForcedIsa forced(isa);
            ASSERT_TRUE(choose_kernels_for(row.units, d, &chosen).ok());
            EXPECT_STREQ(chosen->isa, isa);
        }
    }
}

TEST(Isa, ForcedOneRuns) {
    for (const char *isa : compiled_isas()) {
        if (!cpu_has(isa)) continue;
        const ForcedIsa forced(isa);
        Model model;
        ASSERT_TRUE(model.open(cifar()).ok());
        EXPECT_STREQ(model.isa(), isa);
    }
}

TEST(Isa, MissingOneIsAnError) {
    const char *isa = missing_isa();
    if (isa == nullptr) GTEST_SKIP() << "this CPU has every instruction set";
    const ForcedIsa forced(isa);
    Model model;
    const Status status = model.open(cifar());
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find(std::string("this CPU does not have ") + isa), std::string::npos)
        << status.message();
}

TEST(Isa, UnknownOneIsAnErrorThatListsThem) {
    const ForcedIsa forced("mmx");
    std::string isa;
    const Status status = chosen_isa(cifar(), &isa);
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find("SHUFFLENET_ISA=mmx"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(isa_names(cifar())), std::string::npos) << status.message();
}

TEST(Isa, CpuWithoutAnyCompiledOneIsAnError) {
    const char *isa = missing_isa();
    if (isa == nullptr) GTEST_SKIP() << "this CPU has every instruction set";
    shufflenet_kernels kernels{};
    kernels.isa = isa;
    shufflenet_descriptor d = cifar();
    d.kernels = &kernels;
    d.kernels_count = 1;
    Model model;
    const Status status = model.open(d);
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find("none of the instruction sets"), std::string::npos) << status.message();
}

TEST(HugePages, PartsAreLinesOfZeroesInOrder) {
    constexpr size_t kMiB = 1 << 20;
    struct Row {
        size_t bytes;
        bool mapped;
    };
    for (const Row &row :
         {Row{0, false}, {kMiB, false}, {2 * kMiB - 1, false}, {2 * kMiB, true}, {5 * kMiB + 64, true}}) {
        HugePages pages;
        const bool mapped = pages.map(row.bytes);
        if (!mapped && row.mapped) GTEST_SKIP() << "this system has no such pages";
        ASSERT_EQ(mapped, row.mapped) << row.bytes;
        if (!mapped) continue;
        const std::byte *const first = pages.take(1);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % (2 * kMiB), 0U) << "a page's beginning";
        const std::byte *const second = pages.take(row.bytes - HugePages::room(1));
        EXPECT_EQ(second, first + HugePages::room(1));
        EXPECT_TRUE(std::all_of(first, first + row.bytes, [](std::byte b) { return b == std::byte{0}; }));
    }
}

TEST(HugePages, WeightsLieInTheOrderOfARun) {
    // Its fully connected layer alone is 4 MB.
    const shufflenet_descriptor &d = featured();
    const std::vector<std::byte> file = reference::random_safetensors(graph_of(d), 1);
    Safetensors tensors;
    ASSERT_TRUE(Safetensors::parse(file, "random weights", &tensors).ok());
    PackedWeights weights;
    ASSERT_TRUE(pack_weights(tensors, "random weights", d.network, *d.program, &weights).ok());
    int64_t at = 0;
    for (const shufflenet_call &call : std::span(d.program->calls, d.program->calls_count)) {
        EXPECT_EQ(call.weights, at) << call.id;
        at += d.program->shapes[call.kernel].weights;
    }
    EXPECT_EQ(weights.floats.size(), static_cast<size_t>(at));
    if (!HugePages().map(4 << 20)) GTEST_SKIP() << "this system has no such pages";
    EXPECT_EQ(reinterpret_cast<uintptr_t>(weights.floats.data()) % (2 << 20), 0U) << "a page's beginning";
}

TEST(Descriptor, OfAnotherVersionIsAnErrorThatNamesBoth) {
    shufflenet_descriptor d{};  // Nothing else of it may be read.
    for (const auto &[abi, version] :
         {std::pair{9'08'07U, "version 9.8.7"}, {0U, "version 0.0.0"}, {~0U, "version "}}) {
        d.abi = abi;
        Model model;
        std::string isa;
        CModel *made = nullptr;
        std::array<char, 200> error{};
        const int code = c_open(d, &made, nullptr, 1, error.data(), error.size());
        EXPECT_EQ(code, static_cast<int>(Code::kUnsupported));
        EXPECT_EQ(made, nullptr);
        for (const std::string &message :
             {model.open(d).message(), chosen_isa(d, &isa).message(), std::string(error.data())}) {
            EXPECT_NE(message.find("expected one of version " SHUFFLENET_VERSION), std::string::npos) << message;
            EXPECT_NE(message.find(std::string("found one of ") + version), std::string::npos) << message;
        }
        EXPECT_EQ(describe(d).name, "");
        EXPECT_EQ(describe(d).classes, 0);
    }
    EXPECT_EQ(cifar().abi, SHUFFLENET_VERSION_NUMBER);
}

struct BadRun {
    const char *what;
    size_t input;
    int batch;
    size_t logits;
    const char *words;
};

TEST(Run, BadArgumentsAreErrors) {
    Model model;
    ASSERT_TRUE(model.open(cifar()).ok());
    std::vector<float> input(3 * 64 * 64 * 2), logits(20);
    EXPECT_NE(model.run(input, 2, logits).message().find("before weights"), std::string::npos);
    ASSERT_TRUE(model.load_embedded_weights().ok());
    const size_t image = 3 * 64 * 64;
    const BadRun rows[] = {
        {"no images", 0, 0, 0, "batch: expected at least 1, found 0"},
        {"negative batch", image, -1, 10, "batch: expected at least 1, found -1"},
        {"short input", image - 1, 1, 10, "input: expected 12288 floats, found 12287"},
        {"long input", 2 * image, 1, 10, "input: expected 12288 floats, found 24576"},
        {"short logits", image, 1, 9, "logits: expected 10 floats, found 9"},
    };
    for (const BadRun &row : rows) {
        const Status status =
            model.run(std::span(input).first(row.input), row.batch, std::span(logits).first(row.logits));
        EXPECT_EQ(status.code(), Code::kBadInput) << row.what;
        EXPECT_NE(status.message().find(row.words), std::string::npos) << row.what << ": " << status.message();
    }
}

TEST(Run, BadOutputsAreErrors) {
    Model model = ready(featured());
    const std::vector<float> input = input_for(featured(), 1);
    std::vector<float> five(5);
    const auto requested = [&](std::string_view name) {
        const OutputRequest request{name, Layout::kNCHW, five};
        return model.run(input, 1, {&request, 1}).message();
    };
    EXPECT_EQ(requested("stage2"), "stage2: expected 1440 floats, found 5");
    EXPECT_EQ(requested("stage5"),
              "output of x0_5_33x47: expected one of logits, stage2, stage3, stage4, conv5, found stage5");
}

TEST(Run, UnopenedModelIsAnError) {
    Model model;
    EXPECT_FALSE(model.run({}, 1, std::span<float>()).ok());
    EXPECT_FALSE(model.run({}, 1, std::span<const OutputRequest>()).ok());
    EXPECT_FALSE(model.load_embedded_weights().ok());
    Model other;
    EXPECT_FALSE(model.share(&other).ok());
    OutputView view{};
    EXPECT_FALSE(model.view("stage2", &view).ok());
    EXPECT_EQ(model.output_shape("stage2").elements(), 0U);
    EXPECT_TRUE(model.outputs().empty());
    EXPECT_EQ(model.info().name, "");
    EXPECT_EQ(model.classes(), 0);
    EXPECT_EQ(model.threads(), 0);
    EXPECT_STREQ(model.isa(), "");
    EXPECT_FALSE(model.has_weights());
}

TEST(Run, ThreadCountIsChecked) {
    for (const int threads : {-1, 257}) {
        Model model;
        EXPECT_EQ(model.open(cifar(), threads).code(), Code::kBadInput) << threads;
    }
}

TEST(Run, AnyThreadCountComputesTheSame) {
    const int batch = 9;
    std::vector<float> expected(batch * 10);
    for (const int threads : kEmulated ? std::vector{1, 2} : std::vector{1, 2, 3, 8, 64, 0}) {
        Model model, other;
        ASSERT_TRUE(model.open(cifar(), threads).ok()) << threads;
        ASSERT_TRUE(model.load_embedded_weights().ok());
        ASSERT_TRUE(model.share(&other, threads).ok()) << threads;
        for (Model *any : {&model, &other}) {
            EXPECT_GE(any->threads(), 1);
            EXPECT_TRUE(threads == 0 || any->threads() == threads) << threads;
            std::vector<float> logits(expected.size());
            ASSERT_TRUE(any->run(input_for(cifar(), batch), batch, logits).ok());
            if (threads == 1) expected = logits;
            EXPECT_EQ(logits, expected) << threads;
        }
    }
}

/// A copy of the table of kernels of one instruction set, to be changed.
struct ChangedKernels {
    std::vector<shufflenet_kernel> functions;
    shufflenet_kernels kernels;
    shufflenet_descriptor d;
    ChangedKernels(const shufflenet_descriptor &from, const std::string &isa) : d(from) {
        const std::span all(from.kernels, from.kernels_count);
        kernels = *std::ranges::find(all, isa, [](const shufflenet_kernels &k) { return std::string(k.isa); });
        functions.assign(kernels.kernels, kernels.kernels + from.program->kernels_count);
        kernels.kernels = functions.data();
        d.kernels = &kernels;
        d.kernels_count = 1;
    }
    ChangedKernels(const ChangedKernels &) = delete;
    ChangedKernels &operator=(const ChangedKernels &) = delete;
};

TEST(Run, FailingKernelNamesItsCall) {
    ChangedKernels changed(cifar(), cifar().kernels[0].isa);
    const std::span calls(cifar().program->calls, cifar().program->calls_count);
    const auto failing = std::ranges::find_if(
        calls, [](const shufflenet_call &call) { return std::string_view(call.id).starts_with("stage3_unit1"); });
    ASSERT_NE(failing, calls.end());
    changed.functions[failing->kernel].run = [](const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
                                                halide_buffer_t *, halide_buffer_t *, halide_buffer_t *) { return -1; };
    // Calls can have a kernel in common.
    const auto first = std::ranges::find(calls, failing->kernel, &shufflenet_call::kernel);
    for (const int threads : {1, 2}) {
        Model model = ready(changed.d, threads);
        std::vector<float> logits(30);
        const Status status = model.run(input_for(changed.d, 3), 3, logits);
        EXPECT_EQ(status.code(), Code::kInternal);
        EXPECT_EQ(status.message(), std::string("cifar10_x0_5: ") + first->id + ": ");
    }
}

TEST(Run, ViewNeedsARunAndAnOutputInTheArena) {
    Model model = ready(featured());
    OutputView view{};
    EXPECT_FALSE(model.view("stage4", &view).ok());
    first_output_of(model, input_for(featured(), 1), 1);
    EXPECT_TRUE(model.view("stage4", &view).ok());
    EXPECT_TRUE(model.view("conv5", &view).ok());
    EXPECT_FALSE(model.view("logits", &view).ok());
    EXPECT_FALSE(model.view("stage5", &view).ok());
}

/// What a view shows, in canonical order.
std::vector<float> viewed(const Model &model, const std::string &output) {
    OutputView view{};
    EXPECT_TRUE(model.view(output, &view).ok());
    std::vector<float> values;
    for (const int32_t channel : view.channel_offset) {
        for (int p = 0; p < view.shape.height * view.shape.width; ++p) {
            values.push_back(view.data[channel + p * view.pixel_stride]);
        }
    }
    return values;
}

/// What views show after a run of the batch.
Outputs viewed_after(Model &model, std::span<const float> input, int batch) {
    first_output_of(model, input, batch);
    Outputs views;
    for (const char *output : {"stage2", "stage3", "stage4", "conv5"}) views.push_back(viewed(model, output));
    return views;
}

TEST(Run, ViewsShowTheLastImage) {
    constexpr int kMostThreads = kEmulated ? 3 : 8, kRepeats = kEmulated ? 1 : 5;
    const std::vector<float> input = input_for(featured(), 4 * kMostThreads);
    const size_t image = input.size() / (4 * kMostThreads);
    const std::span<const float> images(input);
    Model alone = ready(featured());
    std::vector<Outputs> expected;
    for (int i = 0; i < 4 * kMostThreads; ++i) {
        expected.push_back(viewed_after(alone, images.subspan(i * image, image), 1));
    }
    for (int threads = 1; threads <= kMostThreads; ++threads) {
        Model model;
        ASSERT_TRUE(alone.share(&model, threads).ok());
        for (int batch = 1; batch <= 4 * threads; ++batch) {
            for (int repeat = 0; repeat < kRepeats; ++repeat) {
                ASSERT_EQ(viewed_after(model, images.first(batch * image), batch), expected[batch - 1])
                    << "batch " << batch << ", " << threads << " threads";
            }
        }
    }
}

/// A kernel that holds every thread but one at its first image until the last one has started.
struct Stalling {
    static inline shufflenet_kernel_fn stem = nullptr;
    static inline std::thread::id caller;
    static inline std::atomic<int> started{0};
    static inline int images = 0;
    static int run(const void *context, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights,
                   halide_buffer_t *elements, halide_buffer_t *out, halide_buffer_t *tail) {
        ++started;
        while (std::this_thread::get_id() != caller && started < images) std::this_thread::yield();
        return stem(context, in, table, weights, elements, out, tail);
    }
};

TEST(Run, ViewsShowTheLastImageWhereOneThreadTakesAllOthers) {
    std::string isa;
    ASSERT_TRUE(chosen_isa(featured(), &isa).ok());
    ChangedKernels changed(featured(), isa);
    shufflenet_kernel &first = changed.functions[featured().program->calls[0].kernel];
    Stalling::stem = std::exchange(first.run, Stalling::run);
    Stalling::caller = std::this_thread::get_id();
    const int batch = Stalling::images = 8;
    const std::vector<float> input = input_for(featured(), batch);
    for (const int threads : {2, 4, 8}) {
        Model model = ready(changed.d, threads);
        Stalling::started = batch;
        const auto expected = viewed_after(model, std::span(input).last(input.size() / batch), 1);
        Stalling::started = 0;
        EXPECT_EQ(viewed_after(model, input, batch), expected) << threads << " threads";
    }
}

TEST(Run, AllocatesNothing) {
    if (!kCountsAllocations) GTEST_SKIP() << "sanitizers interpose malloc";
    for (const char *name : {"cifar10_x0_5", "x0_5_33x47", "x0_5_1024x640"}) {
        const shufflenet_descriptor &d = model_named(name);
        if (runs_once(d)) continue;
        for (const int threads : {1, 2}) {
            Model model = ready(d, threads);
            const std::vector<float> input = input_for(d, 3);
            const OutputBuffers buffers(model, 3, Layout::kNHWC);
            const long before = allocation_count();
            const Status status = model.run(input, 3, buffers.requests());
            EXPECT_EQ(allocation_count(), before) << name << ", " << threads << " threads";
            EXPECT_TRUE(status.ok()) << status.message();
        }
    }
}

TEST(Weights, ClassCountOfTheFileWins) {
    Model model;
    ASSERT_TRUE(model.open(cifar()).ok());
    EXPECT_EQ(model.classes(), 10);
    for (const int classes : {1, 7, 33, 1000, 100'000}) {
        const auto file = reference::random_safetensors(graph_with_classes(cifar(), classes), 5);
        ASSERT_TRUE(model.load_weights(file, "file").ok());
        EXPECT_EQ(model.classes(), classes);
        std::vector<float> logits(classes, NAN);
        ASSERT_TRUE(model.run(input_for(cifar(), 1), 1, logits).ok());
        for (const float value : logits) ASSERT_TRUE(std::isfinite(value));
    }
}

TEST(Weights, AreKeptWhenLoadingFails) {
    Model model;
    ASSERT_TRUE(model.open(cifar()).ok());
    ASSERT_TRUE(model.load_embedded_weights().ok());
    const std::vector<float> input = input_for(cifar(), 1);
    std::vector<float> before(10), after(10);
    ASSERT_TRUE(model.run(input, 1, before).ok());
    const auto other = networks::published_network("shufflenet_v2_x1_0", {64, 64}, 10);
    const std::vector<std::byte> file = reference::random_safetensors(*other, 5);
    EXPECT_FALSE(model.load_weights(file, "other network").ok());
    ASSERT_TRUE(model.run(input, 1, after).ok());
    EXPECT_EQ(before, after);
}

TEST(Share, ConcurrentModelsAgree) {
    Model model;
    ASSERT_TRUE(model.open(cifar(), 2).ok());
    ASSERT_TRUE(model.load_embedded_weights().ok());
    const std::vector<float> input = input_for(cifar(), 4);
    std::vector<float> expected(40);
    ASSERT_TRUE(model.run(input, 4, expected).ok());

    constexpr int kThreads = 4;
    std::vector<Model> models(kThreads);
    std::vector<std::vector<float>> results(kThreads, std::vector<float>(40));
    for (Model &shared : models) ASSERT_TRUE(model.share(&shared, 2).ok());
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 20; ++i) {
                const Status status = models[t].run(input, 4, results[t]);
                if (!status.ok()) results[t].assign(40, NAN);
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    for (const auto &result : results) EXPECT_EQ(result, expected);
}

TEST(Share, DifferentModelsRunSideBySide) {
    struct Job {
        const shufflenet_descriptor *d;
        Model model;
        std::vector<float> input, expected, found;
    };
    std::vector<Job> jobs;
    for (const char *name : {"cifar10_x0_5", "x0_5_33x47", "prime_32x32"}) {
        Job job{&model_named(name), {}, {}, {}, {}};
        ASSERT_TRUE(job.model.open(*job.d, 2).ok());
        ASSERT_TRUE(
            job.model.load_weights(reference::random_safetensors(graph_with_classes(*job.d, 10), 9), "random").ok());
        job.input = input_for(*job.d, 2);
        job.expected.resize(20);
        job.found.resize(20);
        ASSERT_TRUE(job.model.run(job.input, 2, job.expected).ok());
        jobs.push_back(std::move(job));
    }
    std::vector<std::thread> threads;
    for (Job &job : jobs) {
        threads.emplace_back([&job] {
            for (int i = 0; i < 20; ++i) {
                if (!job.model.run(job.input, 2, job.found).ok()) job.found.clear();
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    for (const Job &job : jobs) EXPECT_EQ(job.found, job.expected) << job.d->name;
}

TEST(CInterface, RunsAndReports) {
    char error[200] = "";
    cifar10_x0_5_model *model = nullptr;
    EXPECT_NE(cifar10_x0_5_open(&model, "/no/such/file.safetensors", 1, error, sizeof error), 0);
    EXPECT_EQ(model, nullptr);
    EXPECT_NE(std::string(error).find("/no/such/file.safetensors"), std::string::npos) << error;
    ASSERT_EQ(cifar10_x0_5_open(&model, nullptr, 1, error, sizeof error), 0) << error;
    EXPECT_EQ(cifar10_x0_5_classes(model), CIFAR10_X0_5_CLASSES);

    const std::vector<float> input = input_for(cifar(), 1);
    std::vector<float> logits(10), expected(10);
    Model plain;
    ASSERT_TRUE(plain.open(cifar()).ok());
    ASSERT_TRUE(plain.load_embedded_weights().ok());
    ASSERT_TRUE(plain.run(input, 1, expected).ok());
    EXPECT_EQ(cifar10_x0_5_run(model, input.data(), 1, logits.data()), 0);
    EXPECT_EQ(logits, expected);
    EXPECT_STREQ(cifar10_x0_5_isa(model), plain.isa());
    EXPECT_NE(cifar10_x0_5_run(model, input.data(), 0, logits.data()), 0);
    EXPECT_NE(std::string(cifar10_x0_5_error(model)).find("batch"), std::string::npos);

    cifar10_x0_5_model *other = nullptr;
    ASSERT_EQ(cifar10_x0_5_share(model, &other, 2, error, sizeof error), 0) << error;
    cifar10_x0_5_close(model);
    EXPECT_EQ(cifar10_x0_5_run(other, input.data(), 1, logits.data()), 0);
    EXPECT_EQ(logits, expected);
    cifar10_x0_5_close(other);
    cifar10_x0_5_close(nullptr);
}

}  // namespace
}  // namespace shufflenet
