// The library's calls when memory, threads or kernels fail: a status that says so, and everything as it was.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>

#include "failing_calls.h"
#include "file.h"
#include "halide_hooks.h"
#include "isa.h"
#include "kernel_context.h"
#include "metadata.h"
#include "npy.h"
#include "reference/random_weights.h"
#include "shufflenet/image.h"
#include "shufflenet/model.h"
#include "tests/model_cases.h"
#include "tests/model_graph.h"
#include "tiny_1x1.h"

namespace shufflenet {
namespace {

/// Allocations of a kernel that are left until one fails; see failing_calls.h.
FailingCall failing_intermediate;

}  // namespace
}  // namespace shufflenet

extern "C" {
void *SHUFFLENET_REAL_HALIDE(malloc)(void *context, size_t size);
void *SHUFFLENET_WRAP_HALIDE(malloc)(void *context, size_t size) {
    return shufflenet::failing_intermediate.now() ? nullptr : SHUFFLENET_REAL_HALIDE(malloc)(context, size);
}
}

namespace shufflenet {
namespace {

namespace fs = std::filesystem;
using Values = std::vector<float>;

constexpr uint64_t kSeed = 17;

void expect_one_line(const Status &status) {
    EXPECT_FALSE(status.message().empty());
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
}

class Folder {
  public:
    Folder() {
        std::string name = (fs::temp_directory_path() / "shufflenet-faults-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;
    ~Folder() { fs::remove_all(path_); }
    std::string file(const std::string &name) const { return path_ / name; }
    auto entries() const { return std::distance(fs::directory_iterator(path_), fs::directory_iterator()); }

  private:
    fs::path path_;
};

std::string seed_file(const std::string &name) { return SHUFFLENET_SOURCE_DIR "/tests/fuzz/seeds/" + name; }

std::string read_text(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// A network small enough to be loaded thousands of times.
const shufflenet_descriptor &tiny() { return tiny_1x1_descriptor; }

std::vector<std::byte> tiny_weights(uint64_t seed) {
    return reference::random_safetensors(graph_with_classes(tiny(), 3), seed);
}

/// A model with weights, and what it says about an image.
struct Fixture {
    Model model;
    Values input = reference::random_input({tiny().height, tiny().width}, 1, kSeed), expected = Values(3);
    const std::vector<std::byte> weights = tiny_weights(kSeed), other_weights = tiny_weights(kSeed + 1);
    Folder folder;

    Fixture() {
        EXPECT_TRUE(model.open(tiny()).ok());
        EXPECT_TRUE(model.load_weights(weights, "weights").ok());
        EXPECT_TRUE(model.run(input, 1, expected).ok());
    }
    /// The logits, or nothing.
    Values logits(Model &of) const {
        Values found(3);
        return of.run(input, 1, found).ok() ? found : Values();
    }
};

/// A call that needs memory. `intact`: what must hold after it failed, and after it succeeded.
struct Row {
    std::string what;
    Code code;  ///< Of the call if it has the memory.
    std::function<Status()> call;
    std::function<bool(bool succeeded)> intact = [](bool /*succeeded*/) { return true; };
};

/// The status of a C function; that this takes memory is not its fault.
Status of_c(int code, const char *message) {
    failing_allocation.disarm();
    return {static_cast<Code>(code), message};
}

std::vector<Row> model_rows(Fixture &f) {
    static Model made;
    static Values logits(3);
    static const std::string path = f.folder.file("weights.safetensors"), name = "a file that is in memory";
    EXPECT_TRUE(write_file_atomically(path, f.other_weights).ok());
    const auto old_or = [&f](const Values *fresh) {
        return [&f, fresh](bool succeeded) {
            const bool right = f.logits(f.model) == (succeeded && fresh != nullptr ? *fresh : f.expected);
            return right && f.model.load_weights(f.weights, "weights").ok();
        };
    };
    static Values other;
    EXPECT_TRUE(f.model.load_weights(f.other_weights, "other").ok());
    other = f.logits(f.model);
    EXPECT_TRUE(f.model.load_weights(f.weights, "weights").ok());
    const auto shared = [&f](bool succeeded) { return !succeeded || f.logits(made) == f.expected; };
    return {
        {"open", Code::kOk, [] { return made.open(tiny(), 1); }},
        {"open with threads", Code::kOk, [] { return made.open(tiny(), 3); }},
        {"open with too many", Code::kBadInput, [] { return made.open(tiny(), 257); }},
        {"load from memory", Code::kOk, [&f] { return f.model.load_weights(f.other_weights, name); }, old_or(&other)},
        {"load from a file", Code::kOk, [&f] { return f.model.load_weights(path); }, old_or(&other)},
        {"load nothing", Code::kBadInput, [&f] { return f.model.load_weights({}, name); }, old_or(nullptr)},
        {"load what is not embedded", Code::kBadInput, [&f] { return f.model.load_embedded_weights(); },
         old_or(nullptr)},
        {"share", Code::kOk, [&f] { return f.model.share(&made, 2); }, shared},
        {"run", Code::kOk, [&f] { return f.model.run(f.input, 1, logits); }},
        {"run wrongly", Code::kBadInput, [&f] { return f.model.run(f.input, 7, logits); }, old_or(nullptr)},
        {"view wrongly", Code::kBadInput,
         [&f] {
             OutputView view;
             return f.model.view("conv5", &view);
         }},
        {"choose an instruction set", Code::kUnsupported,
         [] {
             shufflenet_descriptor d = tiny();
             d.kernels_count = 0;
             std::string isa;
             return chosen_isa(d, &isa);
         }},
    };
}

std::vector<Row> c_rows(Fixture &f) {
    static const std::string path = f.folder.file("c.safetensors");
    EXPECT_TRUE(write_file_atomically(path, f.weights).ok());
    static char error[200];
    static tiny_1x1_model *model = nullptr;
    static Values logits(3);
    return {
        {"C open", Code::kOk,
         [] {
             tiny_1x1_close(model);
             return of_c(tiny_1x1_open(&model, path.c_str(), 2, error, sizeof error), error);
         },
         [](bool succeeded) { return (model != nullptr) == succeeded; }},
        {"C open without weights", Code::kBadInput,
         [] {
             tiny_1x1_model *none = nullptr;
             return of_c(tiny_1x1_open(&none, nullptr, 1, error, sizeof error), error);
         }},
        {"C share", Code::kOk,
         [] {
             tiny_1x1_model *other = nullptr;
             const int code = tiny_1x1_share(model, &other, 2, error, sizeof error);
             tiny_1x1_close(other);
             return of_c(code, error);
         }},
        {"C run wrongly", Code::kBadInput,
         [&f] {
             const int code = tiny_1x1_run(model, f.input.data(), -1, logits.data());
             return of_c(code, tiny_1x1_error(model));
         }},
        {"C run", Code::kOk,
         [&f] { return of_c(tiny_1x1_run(model, f.input.data(), 1, logits.data()), tiny_1x1_error(model)); },
         [&f](bool succeeded) { return !succeeded || logits == f.expected; }},
        {"C close", Code::kOk,
         [] {
             tiny_1x1_close(std::exchange(model, nullptr));
             return Status();
         }},
    };
}

std::vector<Row> file_rows(Fixture &f) {
    static const std::string output = f.folder.file("output.npy");
    static const std::string old = "old contents of this file";
    static const Values data(6);
    static const std::vector<int64_t> shape = {2, 3};
    const auto old_or_new = [&f](bool succeeded) {
        const std::string found = read_text(output);
        std::ofstream(output) << old;
        return (succeeded ? found.size() == 128 + 6 * sizeof(float) : found == old) && f.folder.entries() == 3;
    };
    std::ofstream(output) << old;
    static Image image, turned, changed;
    static Values input(size_t{3} * 32 * 32);
    image = Image{40, 50, std::vector<uint8_t>(size_t{3} * 40 * 50)};
    turned = image;
    turned.orientation = 6;
    const auto read = [](auto reader, const std::string &name) {
        return [reader, path = seed_file(name)] {
            std::vector<std::byte> bytes;
            if (Status status = read_file(path, &bytes); !status.ok()) return status;
            return reader(std::span<const std::byte>(bytes), path);
        };
    };
    const auto decode = [](std::span<const std::byte> bytes, const std::string &name) {
        Image decoded;
        return decode_image({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, name, &decoded);
    };
    // An image that lost its orientation for want of memory would be a wrong one.
    const auto decode_turned = [](std::span<const std::byte> bytes, const std::string &name) {
        Image decoded;
        Status status = decode_image({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, name, &decoded);
        return status.ok() && decoded.orientation == 1 ? Status(Code::kInternal, "not turned") : status;
    };
    const auto text = [](std::span<const std::byte> bytes) {
        return std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size());
    };
    return {
        {"write", Code::kOk, [] { return write_npy(output, shape, data); }, old_or_new},
        {"write wrongly", Code::kBadInput, [] { return write_npy(output, {}, data); }, old_or_new},
        {"JPEG", Code::kOk, read(decode, "jpeg/rgb")},
        {"CMYK JPEG", Code::kOk, read(decode, "jpeg/cmyk")},
        {"cut JPEG", Code::kBadInput, read(decode, "jpeg/cut")},
        {"JPEG with EXIF", Code::kOk, read(decode_turned, "jpeg/turned")},
        {"PNG", Code::kOk, read(decode, "png/rgb")},
        {"PNG with EXIF", Code::kOk, read(decode_turned, "png/turned")},
        {"cut PNG", Code::kBadInput, read(decode, "png/cut")},
        {"BMP", Code::kOk, read(decode, "bmp/rgb")},
        {"PPM", Code::kOk, read(decode, "pnm/rgb")},
        {"no file", Code::kBadInput, read(decode, "jpeg/there is no such file")},
        {"resize", Code::kOk, [] { return resize_short_side(image, 30, &changed); }},
        {"orient", Code::kOk, [] { return orient(turned, &changed); }},
        {"preprocess and orient", Code::kOk,
         [] { return preprocess(turned, {.resize = 36, .crop_height = 32, .crop_width = 32}, input); }},
        {"crop", Code::kOk, [] { return center_crop(image, 30, 60, &changed); }},
        {"preprocess", Code::kOk,
         [] { return preprocess(image, {.resize = 36, .crop_height = 32, .crop_width = 32}, input); }},
        {"NumPy", Code::kOk,
         read(
             [](auto bytes, const auto &name) {
                 Npy npy;
                 return parse_npy(bytes, name, &npy);
             },
             "npy/image")},
        {"labels", Code::kOk,
         read(
             [text](auto bytes, const auto &name) {
                 std::vector<std::string> labels;
                 return parse_labels(text(bytes), name, &labels);
             },
             "labels/crlf")},
        {"metadata", Code::kOk,
         read(
             [text](auto bytes, const auto &name) {
                 Metadata metadata;
                 return parse_metadata(text(bytes), name, &metadata);
             },
             "metadata/plain")},
    };
}

/// Makes each allocation of the call fail in turn, until none is left.
void fail_every_allocation(const Row &row) {
    SCOPED_TRACE(row.what);
    for (long nth = 1;; ++nth) {
        Status status;
        failing_allocation.arm(nth);
        ASSERT_NO_THROW(status = row.call()) << "allocation " << nth;
        failing_allocation.disarm();
        ASSERT_TRUE(row.intact(status.ok())) << "allocation " << nth << ": " << status.message();
        if (!failing_allocation.failed()) {
            EXPECT_EQ(status.code(), row.code) << status.message();
            return;
        }
        if (status.ok() || status.code() == row.code) continue;  // It could do without.
        ASSERT_EQ(status.code(), Code::kOutOfMemory) << "allocation " << nth << ": " << status.message();
        expect_one_line(status);
        EXPECT_NE(status.message().find("out of memory"), std::string::npos) << status.message();
    }
}

TEST(Faults, EveryAllocationOfAModel) {
    Fixture fixture;
    for (const Row &row : model_rows(fixture)) fail_every_allocation(row);
}

TEST(Faults, EveryAllocationOfAModelInC) {
    Fixture fixture;
    for (const Row &row : c_rows(fixture)) fail_every_allocation(row);
}

TEST(Faults, EveryAllocationOfAFile) {
    Fixture fixture;
    std::ofstream(fixture.folder.file("one")) << "beside";
    std::ofstream(fixture.folder.file("two")) << "beside";
    for (const Row &row : file_rows(fixture)) fail_every_allocation(row);
}

TEST(Faults, EveryThread) {
    Fixture f;
    constexpr int kThreads = 4;
    for (int nth = 1; nth < kThreads; ++nth) {
        Model model;
        failing_thread.arm(nth);
        const Status status = model.open(tiny(), kThreads);
        EXPECT_TRUE(failing_thread.failed());
        EXPECT_EQ(status.code(), Code::kOutOfMemory);
        const std::string which = "thread " + std::to_string(nth + 1) + " of " + std::to_string(kThreads);
        EXPECT_NE(status.message().find(which), std::string::npos) << status.message();
        EXPECT_EQ(model.threads(), 0);

        failing_thread.arm(nth);
        EXPECT_EQ(f.model.share(&model, kThreads).code(), Code::kOutOfMemory);
        EXPECT_TRUE(failing_thread.failed());
        EXPECT_EQ(f.logits(f.model), f.expected);
    }
}

// Kernels

TEST(Faults, EveryAllocationInKernels) {
    const shufflenet_descriptor &d = **std::ranges::find_if(
        kTestModels, [](const shufflenet_descriptor *model) { return model->name == std::string_view("x0_5_97x64"); });
    constexpr int kBatch = 3, kClasses = 10;
    const auto weights = reference::random_safetensors(graph_with_classes(d, kClasses), kSeed);
    const Values input = reference::random_input({d.height, d.width}, kBatch, kSeed);
    for (const int threads : {1, 2}) {
        Model model;
        ASSERT_TRUE(model.open(d, threads).ok());
        ASSERT_TRUE(model.load_weights(weights, "random").ok());
        Values expected(kBatch * kClasses), found(expected.size());
        ASSERT_TRUE(model.run(input, kBatch, expected).ok());
        int failures = 0;
        for (long nth = 1;; ++nth) {
            failing_intermediate.arm(nth);
            const Status status = model.run(input, kBatch, found);
            failing_intermediate.disarm();
            if (!failing_intermediate.failed()) break;
            ++failures;
            ASSERT_EQ(status.code(), Code::kInternal);
            expect_one_line(status);
            const std::regex expected_message("x0_5_97x64: (stem|stage.*|conv5.*): Out of memory.*");
            EXPECT_TRUE(std::regex_match(status.message(), expected_message)) << status.message();
            // Nothing of the failed run remains: this one has all its memory again.
            ASSERT_TRUE(model.run(input, kBatch, found).ok()) << nth;
            ASSERT_EQ(found, expected) << nth;
        }
        EXPECT_GT(failures, 10);
        EXPECT_EQ(found, expected);
    }
}

class Kernels : public testing::TestWithParam<Case> {};

TEST_P(Kernels, ReportWrongBuffersInsteadOfAborting) {
    if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
    const shufflenet_descriptor &d = *GetParam().model;
    const shufflenet_kernels &k = *std::ranges::find_if(
        std::span(d.kernels, size_t(d.kernels_count)),
        [](const shufflenet_kernels &kernels) { return kernels.isa == std::string_view(GetParam().isa); });
    alignas(64) float memory[64]{};
    halide_dimension_t dimensions[3] = {{0, 5, 1}, {0, 3, 5}, {0, 1, 15}};
    halide_buffer_t small{};  // No kernel's arguments are of this shape.
    small.host = reinterpret_cast<uint8_t *>(memory);
    small.type = halide_type_t(halide_type_float, 32);
    small.dimensions = 3;
    small.dim = dimensions;
    halide_buffer_t misaligned = small, of_doubles = small;
    misaligned.host += 1;
    of_doubles.type.bits = 64;
    for (halide_buffer_t *buffer : {static_cast<halide_buffer_t *>(nullptr), &small, &misaligned, &of_doubles}) {
        for (int i = 0; i < d.program->kernels_count; ++i) {
            KernelError error;
            KernelContext context{.error = &error};
            EXPECT_NE(k.kernels[i].run(&context, buffer, buffer, buffer, buffer, buffer, buffer), 0) << "kernel " << i;
            EXPECT_TRUE(error.failed);
            EXPECT_NE(error.message[0], '\0');
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Kernels, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
