// The rows of tests that run every model on every instruction set.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "isa.h"
#include "test_models.h"

namespace shufflenet {

struct Case {
    const shufflenet_descriptor *model;
    const char *isa;
};

/// Also those that this CPU cannot run, to be skipped aloud.
inline std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const shufflenet_descriptor *model : kTestModels) {
        for (int i = 0; i < model->kernels_count; ++i) cases.push_back({model, model->kernels[i].isa});
    }
    return cases;
}

inline std::string case_name(const Case &c) { return std::string(c.model->name) + "_on_" + c.isa; }

/// Models that are opened in its lifetime use this instruction set.
class ForcedIsa {
  public:
    explicit ForcedIsa(const char *isa) { setenv(kIsaVariable, isa, 1); }
    ForcedIsa(const ForcedIsa &) = delete;
    ForcedIsa &operator=(const ForcedIsa &) = delete;
    ~ForcedIsa() { unsetenv(kIsaVariable); }
};

}  // namespace shufflenet
