// The interface of a schedule: it arranges the Funcs that a generator hands it, and defines no values.
#pragma once

#include <memory>
#include <stdexcept>

#include "generators/kernels.h"
#include "machine.h"
#include "tuning.h"

namespace shufflenet::schedules {

using generators::FullyConnected;
using generators::GlobalPool;
using generators::PlaneByPlane;
using generators::PooledPointwise;
using generators::Separable;
using generators::SingleLayer;
using generators::Softmax;
using generators::Stem;
using generators::Unit;

/// One implementation per target.
class Schedule {
  public:
    virtual ~Schedule() = default;
    virtual void apply(Stem &f) const = 0;
    virtual void apply(Unit &f) const = 0;
    virtual void apply(Separable &f) const = 0;
    virtual void apply(PooledPointwise &f) const = 0;
    virtual void apply(FullyConnected &f) const = 0;
    virtual void apply(SingleLayer &f) const = 0;
    virtual void apply(GlobalPool &f) const = 0;
    virtual void apply(PlaneByPlane &f) const = 0;
    virtual void apply(Softmax &f) const = 0;
};

/// Every Func at root, no vectors, no threads: the oracle for the others.
std::unique_ptr<Schedule> reference_schedule();
std::unique_ptr<Schedule> x86_schedule(const Machine &machine, const Tuning &tuning);
std::unique_ptr<Schedule> arm_schedule(const Machine &machine, const Tuning &tuning);
std::unique_ptr<Schedule> gpu_schedule(const Machine &machine, const Tuning &tuning);

}  // namespace shufflenet::schedules
