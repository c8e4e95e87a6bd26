// Our library as one side of a comparison, in a process of its own, driven through standard input and output, so that
// sides can take turns; peer.py is the other sides.
//
//   bench_peer MODEL WEIGHTS.safetensors|random BATCH THREADS INPUT.f32 OUTPUT.f32
//
// Runs once and writes the outputs one after another, so that sides can be compared, then prints a line of JSON that
// says who it is. For each line with a number on standard input it runs that often and prints the microseconds of each
// run as JSON.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bench/common/workload.h"
#include "models/compiled_models.h"
#include "runtime/src/file.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

const shufflenet_descriptor &find(const std::string &name) {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        if (name == descriptor->name) return *descriptor;
    }
    throw std::runtime_error(name + ": not compiled in");
}

void serve(const std::vector<std::string> &arguments) {
    if (arguments.size() != 6)
        throw std::runtime_error("expected 6 arguments, found " + std::to_string(arguments.size()));
    const shufflenet_descriptor &descriptor = find(arguments[0]);
    const int batch = std::stoi(arguments[2]), threads = std::stoi(arguments[3]);
    std::vector<std::byte> file;
    check(read_file(arguments[4], &file));
    std::vector<float> input(size_t(batch) * 3 * descriptor.height * descriptor.width);
    if (file.size() != input.size() * sizeof(float)) {
        throw std::runtime_error(arguments[4] + ": expected floats of " + std::to_string(batch) + " images of " +
                                 std::to_string(descriptor.height) + " x " + std::to_string(descriptor.width));
    }
    std::memcpy(input.data(), file.data(), file.size());
    Model model;
    check(model.open(descriptor, threads));
    check(arguments[1] == "random" ? model.load_weights(Workload(descriptor, 1).safetensors(), arguments[1])
                                   : model.load_weights(arguments[1]));
    const Outputs outputs(model.outputs(), batch);
    check(model.run(input, batch, outputs.requests()));
    std::ofstream out(arguments[5], std::ios::binary);
    for (const std::vector<float> &output : outputs.values()) {
        out.write(reinterpret_cast<const char *>(output.data()),
                  static_cast<std::streamsize>(output.size() * sizeof(float)));
    }
    out.close();
    if (!out) throw std::runtime_error(arguments[5] + ": cannot be written");
    const Json about = {{"name", "ours"}, {"isa", model.isa()}, {"peak_gflops", peak_gflops(model.isa(), threads)}};
    std::cout << about.dump() << std::endl;
    for (int count = 0; std::cin >> count;) {
        Json times = Json::array();
        for (int i = 0; i < count; ++i) {
            const auto start = Clock::now();
            check(model.run(input, batch, outputs.requests()));
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
