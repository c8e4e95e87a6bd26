// Makes the nth allocation or the nth start of a thread fail, in this process: from our own code, the C++ library's
// and, through the linker's --wrap, the runtime's arrays and what libpng asks us for.
#pragma once

#include <atomic>

namespace shufflenet {

/// Counts calls until one is to fail.
class FailingCall {
  public:
    void arm(long nth) {
        failed_ = false;
        left_ = nth;
    }
    void disarm() { left_ = 0; }
    bool now() {
        if (left_.load() <= 0 || left_.fetch_sub(1) != 1) return false;
        return failed_ = true;
    }
    bool failed() const { return failed_; }

  private:
    std::atomic<long> left_{0};
    std::atomic<bool> failed_{false};
};

extern FailingCall failing_allocation, failing_thread;

}  // namespace shufflenet
