// What a file is, by its first bytes: to say so where it was given in place of something else.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

enum class FileKind {
    kUnknown,
    kEmpty,
    kZeros,
    kGitLfsPointer,
    kWebPage,
    kJson,
    kText,
    kUtf16,
    kArchive,
    kZip,
    kPytorch,
    kPickle,
    kSafetensors,
    kOnnx,
    kNpy,
    kImage,  ///< Also what else has pictures to show: a document.
    kVideo,
    kOther,
};

struct KnownFile {
    FileKind kind = FileKind::kUnknown;
    std::string_view name;    ///< With its article: "a web page". Empty: unknown.
    std::string_view advice;  ///< What to do; may be empty.
};

/// As many bytes of a file's start as recognise_file() looks at.
inline constexpr size_t kRecognisedBytes = 512;

/// `bytes`: the first kRecognisedBytes of a file, or all of a shorter one. Any bytes are looked at safely; text and
/// safetensors are guesses, for what was refused as something else.
KnownFile recognise_file(std::span<const std::byte> bytes);

/// What follows "expected ..., found": name and advice, with the first line of a text; of an unknown file its first
/// bytes.
std::string found_text(std::span<const std::byte> start);

/// What a reader wants to be given.
struct ExpectedFile {
    std::string_view what;          ///< "an ONNX file"
    size_t most;                    ///< Its bytes.
    std::array<FileKind, 2> kinds;  ///< What it may look like, beside unknown and empty.
};

/// An error if a file is recognised as something else. `start`: its first kRecognisedBytes, or more.
Status check_kind(std::span<const std::byte> start, const std::string &name, const ExpectedFile &expected);

/// Reads a file, if it is neither recognised as something else nor too large: then no more than its start was read.
Status read_expected(const std::string &path, const ExpectedFile &expected, std::vector<std::byte> *bytes);

/// What begins some files of text in UTF-8 is no part of the text.
inline std::string_view without_byte_order_mark(std::string_view text) {
    constexpr std::string_view kMark = "\xEF\xBB\xBF";
    return text.starts_with(kMark) ? text.substr(kMark.size()) : text;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
