// Which images the arguments of `shufflenet classify` mean.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::cli {

/// The argument that stands for standard input; a file of that name is "./-".
inline constexpr std::string_view kStandardInput = "-";

/// How the names of a folder's images end, in either case.
inline constexpr std::array<std::string_view, 9> kImageSuffixes = {".jpg", ".jpeg", ".jpe", ".jfif", ".png",
                                                                   ".bmp", ".ppm",  ".pgm", ".pnm"};

struct ImageList {
    std::vector<std::string> paths;
    std::vector<std::string> notes, problems;  ///< About folders; one line each.
};

/// Files and standard input as they are given; instead of a folder the images in it and below, sorted by path. Links to
/// folders are followed, but a folder is looked into once, however many ways lead there. Entries whose names start with
/// a dot are not looked at; other files, and links that lead to no image and no new folder, are counted in a note.
/// `files_from`: a file with one more path on each line, or kStandardInput. Throws Error where that cannot be read.
ImageList list_images(const std::vector<std::string> &arguments, const std::optional<std::string> &files_from);

}  // namespace shufflenet::cli
