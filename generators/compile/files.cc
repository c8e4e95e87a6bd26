#include "files.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace shufflenet::compile {

namespace {

[[noreturn]] void fail(const std::string &path, const std::string &what) {
    throw std::runtime_error(path + ": " + what + (errno != 0 ? ": " + std::string(std::strerror(errno)) : ""));
}

/// As make reads it.
std::string escaped(const std::string &path) {
    std::string text;
    for (const char ch : path) {
        if (ch == ' ' || ch == '#') text += '\\';
        if (ch == '$') text += '$';
        text += ch;
    }
    return text;
}

}  // namespace

std::string read_text(const std::string &path, const std::string &option) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file) fail((option.empty() ? "" : option + ": ") + path, "cannot be read");
    return text;
}

void write_text(const std::string &path, std::string_view text) {
    errno = 0;
    std::ofstream file(path, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.close();
    if (!file) fail(path, "cannot be written");
}

Staging::Staging(std::string folder) : folder_(std::move(folder)) {
    std::error_code error;
    made_ = std::filesystem::create_directories(folder_, error);
    if (error) throw std::runtime_error("--output: " + folder_ + ": " + error.message());
    staged_ = std::filesystem::absolute(folder_).string() + "/.shufflenet-XXXXXX";
    if (mkdtemp(staged_.data()) == nullptr) {
        throw std::runtime_error("--output: " + folder_ + ": " + std::strerror(errno));
    }
}

Staging::~Staging() {
    std::error_code ignored;
    std::filesystem::remove_all(staged_, ignored);
    // Only if there is nothing in it.
    if (made_) std::filesystem::remove(folder_, ignored);
}

void Staging::commit() {
    for (const std::string &name : kept_) std::filesystem::rename(path(name), destination(name));
}

std::string depfile_text(const std::vector<std::string> &outputs, const std::vector<std::string> &inputs) {
    std::vector<std::string> sorted = inputs;
    std::ranges::sort(sorted);
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    std::string text;
    for (const std::string &output : outputs) text += (text.empty() ? "" : " ") + escaped(output);
    text += ':';
    for (const std::string &input : sorted) text += " \\\n  " + escaped(input);
    return text + '\n';
}

}  // namespace shufflenet::compile
