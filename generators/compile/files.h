// What the compiler writes: all of it, or nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::compile {

/// Throws std::runtime_error with the file, the option that names it, if any, and the reason.
std::string read_text(const std::string &path, const std::string &option = {});
void write_text(const std::string &path, std::string_view text);

/// A folder within another one, in which files are made; they take their places together once all are complete.
class Staging {
  public:
    /// Makes `folder` too, if it is not there. Throws std::runtime_error.
    explicit Staging(std::string folder);
    Staging(const Staging &) = delete;
    Staging &operator=(const Staging &) = delete;
    /// Removes what has no place.
    ~Staging();

    const std::string &folder() const { return staged_; }
    std::string path(const std::string &name) const { return staged_ + "/" + name; }
    /// Files that are results, and not steps on the way.
    void keep(const std::string &name) { kept_.push_back(name); }
    const std::vector<std::string> &kept() const { return kept_; }
    /// Where a result goes.
    std::string destination(const std::string &name) const { return folder_ + "/" + name; }
    void commit();

  private:
    std::string folder_, staged_;
    bool made_ = false;
    std::vector<std::string> kept_;
};

/// The rule of a depfile: `outputs` were made of `inputs`.
std::string depfile_text(const std::vector<std::string> &outputs, const std::vector<std::string> &inputs);

}  // namespace shufflenet::compile
