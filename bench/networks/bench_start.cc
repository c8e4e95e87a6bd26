// From process start to the first result: start/<model>/<from>/<precision>. Every iteration is a new process of this
// program, which opens the model, loads weights, runs one image and writes its first output; time ends with their first
// byte. `from` is "file" or "embedded"; embedded weights lie in pages of the program's file, so here in pages of the
// weights'. Files are in the page cache; the first process of all, which may find them outside, is not timed.
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>

#include "bench/common/benchmark_main.h"
#include "bench/common/workload.h"
#include "models/compiled_models.h"
#include "runtime/src/canonical.h"
#include "runtime/src/file.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char *kChild = "--first-result";

[[noreturn]] void fail(const std::string &what) { throw std::runtime_error(what + ": " + std::strerror(errno)); }

const shufflenet_descriptor &model_named(const std::string &name) {
    for (const shufflenet_descriptor *model : compiled_models()) {
        if (name == model->name) return *model;
    }
    throw std::runtime_error("unknown model " + name);
}

std::vector<float> image_for(const shufflenet_descriptor &model) {
    std::vector<float> image(size_t{3} * model.height * model.width);
    for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(i % 251) / 125 - 1;
    return image;
}

/// The file's pages, as a program's own are.
std::span<const std::byte> mapped(const std::string &path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (file < 0 || ::fstat(file, &info) != 0) fail(path);
    void *pages = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (pages == MAP_FAILED) fail(path);
    ::close(file);
    return {static_cast<const std::byte *>(pages), static_cast<size_t>(info.st_size)};
}

std::vector<float> first_result(const shufflenet_descriptor &descriptor, const std::string &from,
                                const std::string &weights) {
    Model model;
    check(model.open(descriptor));
    check(from == "embedded" ? model.load_weights(mapped(weights), weights) : model.load_weights(weights));
    std::vector<float> output(model.outputs().front().shape.elements());
    check(model.run(image_for(descriptor), 1, output));
    return output;
}

/// The child: MODEL FROM WEIGHTS
int child(char **arguments) {
    const std::vector<float> output = first_result(model_named(arguments[0]), arguments[1], arguments[2]);
    const auto bytes = std::as_bytes(std::span(output));
    return ::write(STDOUT_FILENO, bytes.data(), bytes.size()) == ssize_t(bytes.size()) ? 0 : 1;
}

/// Starts a process and reads what it writes; returns the seconds until the first byte.
double time_child(const std::vector<std::string> &command, std::span<std::byte> output) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe");
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::vector<char *> words;
    for (const std::string &word : command) words.push_back(const_cast<char *>(word.c_str()));
    words.push_back(nullptr);

    pid_t process = 0;
    const auto start = Clock::now();
    const int error = ::posix_spawn(&process, words[0], &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    if (error != 0) throw std::runtime_error(command[0] + ": " + std::strerror(error));
    ssize_t count = ::read(ends[0], output.data(), output.size());
    const std::chrono::duration<double> seconds = Clock::now() - start;
    size_t size = 0;
    for (; count > 0; count = ::read(ends[0], output.data() + size, output.size() - size)) size += size_t(count);
    ::close(ends[0]);
    int status = 0;
    ::waitpid(process, &status, 0);
    if (status != 0 || size != output.size()) throw std::runtime_error(command[0] + ": no result");
    return seconds.count();
}

/// Weight files of random weights, removed at the end.
class WeightFiles {
  public:
    WeightFiles() {
        std::string pattern = (std::filesystem::temp_directory_path() / "shufflenet-start-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) fail(pattern);
        folder_ = pattern;
    }
    WeightFiles(const WeightFiles &) = delete;
    WeightFiles &operator=(const WeightFiles &) = delete;
    ~WeightFiles() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::string get(const shufflenet_descriptor &model, const std::string &precision) {
        std::string &path = files_[model.name + precision];
        if (path.empty()) {
            path = folder_ / (std::string(model.name) + "-" + precision + ".safetensors");
            const Workload workload(model, 1);
            Safetensors file;
            check(Safetensors::parse(workload.safetensors(), "random weights", &file));
            CanonicalWeights weights;
            const Precision wanted = precision == "f16" ? Precision::kHalf : Precision::kAsItIs;
            check(canonical_weights(file, "random weights", "", wanted, &weights));
            check(write_file_atomically(path, serialize_safetensors(weights.tensors)));
        }
        return path;
    }

  private:
    std::filesystem::path folder_;
    std::map<std::string, std::string> files_;
};

void run_start(benchmark::State &state, const shufflenet_descriptor &model, const std::string &from,
               const std::string &weights) {
    const std::vector<float> expected = first_result(model, from, weights);
    std::vector<float> found(expected.size());
    const std::vector<std::string> command = {"/proc/self/exe", kChild, model.name, from, weights};
    time_child(command, std::as_writable_bytes(std::span(found)));
    if (found != expected) throw std::runtime_error(std::string(model.name) + ": another process has another result");
    while (state.KeepRunning()) {
        state.SetIterationTime(time_child(command, std::as_writable_bytes(std::span(found))));
    }
}

void register_all() {
    const auto files = std::make_shared<WeightFiles>();
    for (const shufflenet_descriptor *model : compiled_models()) {
        for (const std::string from : {"embedded", "file"}) {
            for (const std::string precision : {"f32", "f16"}) {
                const std::string name = "start/" + std::string(model->name) + "/" + from + "/" + precision;
                benchmark::RegisterBenchmark(name.c_str(),
                                             [files, model, from, precision](benchmark::State &state) {
                                                 run_start(state, *model, from, files->get(*model, precision));
                                             })
                    ->UseManualTime()
                    ->Unit(benchmark::kMillisecond);
            }
        }
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    using namespace shufflenet::bench;
    if (argc == 5 && argv[1] == std::string(kChild)) {
        try {
            return child(argv + 2);
        } catch (const std::exception &error) {
            std::cerr << "bench_start: error: " << error.what() << '\n';
            return 1;
        }
    }
    return benchmark_main("bench_start", argc, argv, register_all);
}
