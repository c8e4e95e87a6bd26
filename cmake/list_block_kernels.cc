// Prints "name|generator|parameters" for each kernel of a set of blocks, once: the experiments, their small versions
// for tests, those of the first width, or all with the networks that are decomposed, which are unfused alone.
#include <iostream>
#include <set>
#include <string_view>

#include "networks/decomposition.h"

namespace {

void print(const shufflenet::KernelSpec &kernel) {
    static std::set<std::string> done;
    if (!done.insert(kernel.name).second) return;
    std::cout << kernel.name << '|' << kernel.generator << '|' << kernel.parameters << '\n';
}

void print(const shufflenet::Block &block) {
    for (const shufflenet::KernelSpec &kernel : unfused_kernels(block)) print(kernel);
    if (has_fused_kernel(block)) print(fused_kernel(block));
}

}  // namespace

int main(int argc, char **argv) {
    const std::string_view set = argc == 2 ? argv[1] : "";
    if (set == "small") {
        for (const shufflenet::Block &block : shufflenet::small_blocks()) print(block);
    } else if (set == "quick" || set == "experiments" || set == "all") {
        for (const shufflenet::Experiment &e : shufflenet::experiments()) {
            if (set != "quick" || e.width == 0) print(e.block);
        }
    } else {
        std::cerr << "usage: list_block_kernels small|quick|experiments|all\n";
        return 2;
    }
    if (set == "all") {
        for (const std::string_view name : shufflenet::kDecomposed) {
            for (const auto &[block, count] : network_blocks(*shufflenet::find_any_network(name))) {
                for (const shufflenet::KernelSpec &kernel : unfused_kernels(block)) print(kernel);
            }
        }
    }
    return 0;
}
