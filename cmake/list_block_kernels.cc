// Prints "name|generator|parameters" for each kernel of a set of blocks, once: the experiments, their small versions
// for tests, or the networks that are decomposed, unfused alone.
#include <cstring>
#include <iostream>
#include <set>

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
    if (argc == 2 && std::strcmp(argv[1], "experiments") == 0) {
        for (const shufflenet::Experiment &e : shufflenet::experiments()) print(e.block);
    } else if (argc == 2 && std::strcmp(argv[1], "small") == 0) {
        for (const shufflenet::Block &block : shufflenet::small_blocks()) print(block);
    } else if (argc == 2 && std::strcmp(argv[1], "decomposition") == 0) {
        for (const std::string_view name : shufflenet::kDecomposed) {
            for (const auto &[block, count] : network_blocks(*shufflenet::find_any_network(name))) {
                for (const shufflenet::KernelSpec &kernel : unfused_kernels(block)) print(kernel);
            }
        }
    } else {
        std::cerr << "usage: list_block_kernels experiments|small|decomposition\n";
        return 2;
    }
    return 0;
}
