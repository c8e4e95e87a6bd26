#include "images.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "error.h"
#include "runtime/src/file.h"

namespace shufflenet::cli {

namespace {

namespace fs = std::filesystem;

/// The images of one folder.
class FolderScan {
  public:
    /// Links wait until all else is seen, so that the paths of what lies below the folder are those without links.
    explicit FolderScan(const fs::path &folder) {
        scan(folder);
        while (!links_.empty()) {
            const std::set<fs::path> links = std::exchange(links_, {});
            for (const fs::path &link : links) {
                if (!scan(link)) ++skipped_links;
            }
        }
        std::sort(images.begin(), images.end());
    }

    std::vector<std::string> images, problems;
    int others = 0, skipped_links = 0;

  private:
    /// false: the folder was seen before, by another path.
    bool scan(const fs::path &folder) {
        std::error_code error;
        if (const fs::path real = fs::canonical(folder, error); !error && !seen_.insert(real).second) return false;
        fs::directory_iterator entry(folder, error);
        for (; !error && entry != fs::directory_iterator(); entry.increment(error)) visit(*entry);
        if (error) problems.push_back(folder.string() + ": cannot be read: " + error.message());
        return true;
    }

    void visit(const fs::directory_entry &entry) {
        if (entry.path().filename().string().starts_with('.')) return;
        std::error_code ignored;
        const bool link = entry.is_symlink(ignored);
        if (entry.is_directory(ignored) && link) {
            links_.insert(entry.path());
        } else if (entry.is_directory(ignored)) {
            scan(entry.path());
        } else if (entry.is_regular_file(ignored) && is_image(entry.path())) {
            images.push_back(entry.path().string());
        } else {
            ++(link ? skipped_links : others);
        }
    }

    static bool is_image(const fs::path &path) {
        std::string suffix = path.extension().string();
        std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                       [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
        return std::find(kImageSuffixes.begin(), kImageSuffixes.end(), suffix) != kImageSuffixes.end();
    }

    std::set<fs::path> links_;  ///< To folders, not followed yet; in order.
    std::set<fs::path> seen_;   ///< Folders, by their real paths.
};

std::string suffix_names() {
    std::string names;
    for (const std::string_view suffix : kImageSuffixes) names += (names.empty() ? "*" : ", *") + std::string(suffix);
    return names;
}

/// "2 other files", "1 link", "2 other files and 1 link"; empty if there are none.
std::string skipped_text(const FolderScan &scan) {
    const auto count = [](int n, const std::string &what) {
        return n == 0 ? "" : std::to_string(n) + " " + what + (n == 1 ? "" : "s");
    };
    const std::string others = count(scan.others, "other file"), links = count(scan.skipped_links, "link");
    return others + (others.empty() || links.empty() ? "" : " and ") + links;
}

void add_folder(const std::string &folder, ImageList *list) {
    const FolderScan found(folder);
    list->paths.insert(list->paths.end(), found.images.begin(), found.images.end());
    list->problems.insert(list->problems.end(), found.problems.begin(), found.problems.end());
    const std::string skipped = skipped_text(found);
    if (found.images.empty() && found.problems.empty()) {
        list->problems.push_back(folder + ": expected images (" + suffix_names() + "), found " +
                                 (skipped.empty() ? "none" : "only " + skipped));
    } else if (!skipped.empty()) {
        list->notes.push_back(folder + ": " + skipped + " skipped (images are " + suffix_names() +
                              (found.skipped_links > 0 ? "; links lead to images or to folders not seen before" : "") +
                              ")");
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

std::vector<std::string> read_paths(const std::string &file) {
    const bool standard_input = file == kStandardInput;
    const std::string name = standard_input ? "standard input" : file;
    std::vector<std::byte> bytes;
    check(standard_input ? read_stream(STDIN_FILENO, name, &bytes) : read_file(file, &bytes));
    std::string_view text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
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
