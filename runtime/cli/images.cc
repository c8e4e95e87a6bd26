#include "images.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "error.h"
#include "runtime/src/file.h"
#include "runtime/src/file_kind.h"

namespace shufflenet::cli {

namespace {

namespace fs = std::filesystem;

/// The images of one folder.
class FolderScan {
  public:
    void scan(const fs::path &folder) {
        std::error_code error;
        fs::directory_iterator entry(folder, error);
        for (; !error && entry != fs::directory_iterator(); entry.increment(error)) visit(*entry);
        if (error) problems.push_back(folder.string() + ": cannot be read: " + error.message());
    }

    std::vector<std::string> images, problems;
    int others = 0;

  private:
    void visit(const fs::directory_entry &entry) {
        if (entry.path().filename().string().starts_with('.')) return;
        std::error_code ignored;
        if (entry.is_directory(ignored)) {
            if (!entry.is_symlink(ignored)) scan(entry.path());
        } else if (entry.is_regular_file(ignored) && is_image(entry.path())) {
            images.push_back(entry.path().string());
        } else {
            ++others;
        }
    }

    static bool is_image(const fs::path &path) {
        std::string suffix = path.extension().string();
        std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                       [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
        return std::find(kImageSuffixes.begin(), kImageSuffixes.end(), suffix) != kImageSuffixes.end();
    }
};

std::string suffix_names() {
    std::string names;
    for (const std::string_view suffix : kImageSuffixes) names += (names.empty() ? "*" : ", *") + std::string(suffix);
    return names;
}

void add_folder(const std::string &folder, ImageList *list) {
    FolderScan found;
    found.scan(folder);
    std::sort(found.images.begin(), found.images.end());
    list->paths.insert(list->paths.end(), found.images.begin(), found.images.end());
    list->problems.insert(list->problems.end(), found.problems.begin(), found.problems.end());
    const std::string others = std::to_string(found.others) + (found.others == 1 ? " other file" : " other files");
    if (found.images.empty() && found.problems.empty()) {
        list->problems.push_back(folder + ": expected images (" + suffix_names() + "), found " +
                                 (found.others > 0 ? "only " + others : "none"));
    } else if (found.others > 0) {
        list->notes.push_back(folder + ": " + others + " skipped (images are " + suffix_names() + ")");
    }
}

void add(const std::string &path, ImageList *list) {
    std::error_code ignored;
    if (path != kStandardInput && fs::is_directory(path, ignored)) {
        add_folder(path, list);
    } else {
        list->paths.push_back(path);
    }
}

constexpr ExpectedFile kListFile{"a text with one path a line", size_t{1} << 30, {FileKind::kText}};

std::vector<std::string> read_paths(const std::string &file) {
    const bool standard_input = file == kStandardInput;
    const std::string name = standard_input ? "standard input" : file;
    std::vector<std::byte> bytes;
    check(standard_input ? read_stream(STDIN_FILENO, name, &bytes) : read_expected(file, kListFile, &bytes));
    check(check_kind(bytes, name, kListFile));
    std::string_view text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
    text = without_byte_order_mark(text);
    std::vector<std::string> paths;
    for (int number = 1; !text.empty(); ++number) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.find('\0') != std::string_view::npos) {
            throw Error(name + ": line " + std::to_string(number) + ": expected a path, found a NUL byte in it");
        }
        // There, a dash is a file.
        if (!line.empty()) paths.push_back((line == kStandardInput ? "./" : "") + std::string(line));
    }
    if (paths.empty()) throw Error(name + ": expected one path a line, found none");
    return paths;
}

}  // namespace

ImageList list_images(const std::vector<std::string> &arguments, const std::optional<std::string> &files_from) {
    ImageList list;
    for (const std::string &path : arguments) add(path, &list);
    if (files_from) {
        for (const std::string &path : read_paths(*files_from)) add(path, &list);
    }
    return list;
}

}  // namespace shufflenet::cli
