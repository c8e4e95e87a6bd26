// Keeps the program's signals from threads that are started meanwhile.
#pragma once

#include <signal.h>

#include <initializer_list>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// In its lifetime the calling thread blocks every signal that another thread can take, and so do, from their first
/// instruction on, the threads that it starts: a program's signals are for its own threads. Not blocked are those that
/// a thread's own instructions raise.
class SignalsBlocked {
  public:
    SignalsBlocked() noexcept {
        sigset_t blocked;
        sigfillset(&blocked);
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&blocked, own);
        pthread_sigmask(SIG_BLOCK, &blocked, &callers_);
    }
    SignalsBlocked(const SignalsBlocked &) = delete;
    SignalsBlocked &operator=(const SignalsBlocked &) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &callers_, nullptr); }

  private:
    sigset_t callers_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
