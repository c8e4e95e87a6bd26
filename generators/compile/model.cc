#include "model.h"

#include <algorithm>

#include "networks/panels.h"

namespace shufflenet::compile {

int64_t arena_bytes(const networks::Program &program, const std::vector<CompiledTarget> &targets) {
    int scratch = 0;
    for (const CompiledTarget &target : targets) scratch = std::max(scratch, target.scratch_bytes());
    const int64_t rows = static_cast<int64_t>(kImageGroup) * program.row_floats;
    return (program.arena_floats + rows) * static_cast<int64_t>(sizeof(float)) + scratch;
}

}  // namespace shufflenet::compile
