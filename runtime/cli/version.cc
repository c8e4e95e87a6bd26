// shufflenet --version: what made this program, and what it uses of this machine.
#include "shufflenet/version.h"

#include "commands.h"
#include "error.h"
#include "models/compiled_models.h"

namespace shufflenet::cli {

std::string version_number() { return SHUFFLENET_VERSION; }

std::string version_text() {
    const ModelInfo info = describe(default_model());
    std::string isa;
    const Status status = chosen_isa(default_model(), &isa);
    const std::string halide = SHUFFLENET_HALIDE_VERSION, llvm = SHUFFLENET_LLVM_VERSION;
    return "shufflenet " + version_number() + "\nkernels: Halide " + halide + ", LLVM " + llvm +
           "\ntargets: " + info.targets + "\nruns on: " + (status.ok() ? isa : message_of(status)) + "\n";
}

}  // namespace shufflenet::cli
