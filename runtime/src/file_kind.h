// What a file is, by its first bytes: to say so where it was given in place of something else.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace shufflenet {

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

/// `start`: the first kRecognisedBytes of a file, or all of a shorter one. Any bytes are looked at safely; text and
/// safetensors are guesses, for what was refused as something else.
KnownFile recognise_file(std::span<const std::byte> start);

/// What follows "expected ..., found": name and advice, with the first line of a text; of an unknown file its first
/// bytes.
std::string found_text(std::span<const std::byte> start);

}  // namespace shufflenet
