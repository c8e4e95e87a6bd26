// One side of a comparison in a process of its own, driven through standard input and output, so that sides can take
// turns: our library, or ONNX Runtime.
//
//   bench_peer ours MODEL WEIGHTS.safetensors|random BATCH THREADS INPUT.f32 OUTPUT.f32
//   bench_peer onnxruntime LIBRARY MODEL.onnx BATCH THREADS INPUT.f32 OUTPUT.f32
//
// Runs once and writes the output, so that sides can be compared, then prints a line of JSON that says who it is. For
// each line with a number on standard input it runs that often and prints the microseconds of each run as JSON.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>

#include "runtime/import/onnxruntime.h"
#include "runtime/src/file.h"
#include "workload.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

struct Side {
    Json about;
    std::function<void(std::span<float> input, std::span<float> output)> run;
};

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

Side ours(const std::string &name, const std::string &weights, int batch, int threads) {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        if (name != descriptor->name) continue;
        auto model = std::make_shared<Model>();
        check(model->open(*descriptor, threads));
        if (weights == "random") {
            check(model->load_weights(Workload(*descriptor, 1).safetensors(), weights));
        } else {
            check(model->load_weights(weights));
        }
        return {{{"name", "ours"}, {"isa", model->isa()}, {"peak_gflops", peak_gflops(model->isa(), threads)}},
                [model, batch](std::span<float> input, std::span<float> output) {
                    check(model->run(input, batch, output));
                }};
    }
    throw std::runtime_error(name + ": not compiled in");
}

/// `side`: height and width of the images.
Side onnx_runtime(const std::string &library, const std::string &model, int batch, int threads, int side) {
    std::vector<std::byte> file;
    check(read_file(model, &file));
    auto session = std::make_shared<OnnxRuntime>(library, file, threads);
    return {{{"name", "onnxruntime"}, {"version", session->version()}},
            [session, batch, side](std::span<float> input, std::span<float> output) {
                const OnnxRuntime::Tensor logits{session->output_name(), {batch, kDefaultClasses}, output};
                session->run({session->input_name(), {batch, 3, side, side}, input}, {&logits, 1});
            }};
}

void serve(const std::vector<std::string> &arguments) {
    if (arguments.size() != 7)
        throw std::runtime_error("expected 7 arguments, found " + std::to_string(arguments.size()));
    const int batch = std::stoi(arguments[3]), threads = std::stoi(arguments[4]);
    std::vector<std::byte> file;
    check(read_file(arguments[5], &file));
    const auto side_pixels = static_cast<int>(std::lround(std::sqrt(file.size() / (sizeof(float) * 3 * batch))));
    std::vector<float> input(size_t(batch) * 3 * side_pixels * side_pixels), output(size_t(batch) * kDefaultClasses);
    if (file.size() != input.size() * sizeof(float)) {
        throw std::runtime_error(arguments[5] + ": expected floats of " + std::to_string(batch) + " square images");
    }
    std::memcpy(input.data(), file.data(), file.size());
    Side side = arguments[0] == "ours" ? ours(arguments[1], arguments[2], batch, threads)
                                       : onnx_runtime(arguments[1], arguments[2], batch, threads, side_pixels);
    side.run(input, output);
    std::ofstream out(arguments[6], std::ios::binary);
    out.write(reinterpret_cast<const char *>(output.data()),
              static_cast<std::streamsize>(output.size() * sizeof(float)));
    out.close();
    if (!out) throw std::runtime_error(arguments[6] + ": cannot be written");
    std::cout << side.about.dump() << std::endl;
    for (int count = 0; std::cin >> count;) {
        Json times = Json::array();
        for (int i = 0; i < count; ++i) {
            const auto start = Clock::now();
            side.run(input, output);
            times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
        }
        std::cout << times.dump() << std::endl;
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    try {
        shufflenet::bench::serve({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "bench_peer: error: " << error.what() << '\n';
        return 1;
    }
}
