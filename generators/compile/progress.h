// How far the compiler has come, for who watches.
#pragma once

#include <string>

namespace shufflenet::compile {

/// One line on a terminal, written again and again; nothing elsewhere.
class Progress {
  public:
    Progress(std::string name, bool wanted);
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;
    /// Clears the line.
    ~Progress();
    void show(size_t done, size_t all);

  private:
    std::string name_;
    bool shown_;
};

}  // namespace shufflenet::compile
