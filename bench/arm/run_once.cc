// Runs one image through a model, once, on one thread, and prints the instruction set: for tools that count what it
// executes (bench/arm/arm_report.py).
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string_view>

#include "bench/common/workload.h"
#include "models/compiled_models.h"

namespace shufflenet::bench {

namespace {

void run_once(std::string_view name) {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        if (descriptor->name != name) continue;
        const Workload workload(*descriptor, 1);
        Model model = workload.open(1);
        const Outputs outputs(model.outputs(), 1);
        check(model.run(workload.input(1), 1, outputs.requests()));
        std::cout << model.isa() << '\n';
        return;
    }
    throw std::runtime_error("unknown model '" + std::string(name) + "'");
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: run_once MODEL\n";
        return 2;
    }
    try {
        shufflenet::bench::run_once(argv[1]);
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "run_once: error: " << error.what() << '\n';
        return 1;
    }
}
