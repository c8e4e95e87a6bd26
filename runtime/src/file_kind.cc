#include "file_kind.h"

#include <algorithm>
#include <array>

#include "file.h"
#include "message.h"
#include "utf8.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

using namespace std::literals;

constexpr std::string_view kUnpack = "unpack it";
constexpr std::string_view kNotTheFile = "the download is not the file itself";

struct Signature {
    size_t offset;
    std::string_view bytes;
    KnownFile file;
};

constexpr std::array kSignatures = {
    Signature{0,
              "version https://git-lfs.github.com/spec/"sv,
              {FileKind::kGitLfsPointer, "a Git LFS pointer, not the file itself", "run 'git lfs pull'"}},
    Signature{0, "\x93NUMPY"sv, {FileKind::kNpy, "a NumPy array (.npy)", ""}},
    Signature{0, "\x1F\x8B"sv, {FileKind::kArchive, "a gzip file", "unpack it, e.g. with gunzip"}},
    Signature{0,
              "\xFD"
              "7zXZ\0"sv,
              {FileKind::kArchive, "an xz file", kUnpack}},
    Signature{0, "\x28\xB5\x2F\xFD"sv, {FileKind::kArchive, "a Zstandard file", kUnpack}},
    Signature{0, "BZh"sv, {FileKind::kArchive, "a bzip2 file", kUnpack}},
    Signature{0, "7z\xBC\xAF\x27\x1C"sv, {FileKind::kArchive, "a 7-Zip archive", kUnpack}},
    Signature{0, "Rar!\x1A\x07"sv, {FileKind::kArchive, "a RAR archive", kUnpack}},
    Signature{257, "ustar"sv, {FileKind::kArchive, "a tar archive", kUnpack}},
    Signature{0, "\x89HDF\r\n\x1A\n"sv, {FileKind::kOther, "an HDF5 file, as Keras writes it", ""}},
    Signature{4, "TFL3"sv, {FileKind::kOther, "a TensorFlow Lite model", ""}},
    Signature{0, "GGUF"sv, {FileKind::kOther, "a GGUF file", ""}},
    Signature{0, "7767517\n"sv, {FileKind::kOther, "an ncnn model (.param)", ""}},
    Signature{0,
              "\x7F"
              "ELF"sv,
              {FileKind::kOther, "a program or library", ""}},
    Signature{0, "%PDF-"sv, {FileKind::kImage, "a PDF document", ""}},
    Signature{0, "%!PS"sv, {FileKind::kImage, "a PostScript document", ""}},
    Signature{0, "\xFF\xD8\xFF"sv, {FileKind::kImage, "a JPEG image", ""}},
    Signature{0, "\x89PNG\r\n\x1A\n"sv, {FileKind::kImage, "a PNG image", ""}},
    Signature{0, "GIF8"sv, {FileKind::kImage, "a GIF image", ""}},
    Signature{8, "WEBPVP8"sv, {FileKind::kImage, "a WebP image", ""}},
    Signature{8, "CR\2\0"sv, {FileKind::kImage, "a camera's raw file (CR2)", ""}},
    Signature{0, "IIU\0"sv, {FileKind::kImage, "a camera's raw file (RW2)", ""}},
    Signature{0, "IIRO\x08\0"sv, {FileKind::kImage, "a camera's raw file (ORF)", ""}},
    Signature{0, "FUJIFILMCCD-RAW"sv, {FileKind::kImage, "a camera's raw file (RAF)", ""}},
    Signature{0, "II*\0"sv, {FileKind::kImage, "a TIFF image, or a camera's raw file", ""}},
    Signature{0, "MM\0*"sv, {FileKind::kImage, "a TIFF image, or a camera's raw file", ""}},
    Signature{0, "II+\0"sv, {FileKind::kImage, "a BigTIFF image", ""}},
    Signature{0, "MM\0+"sv, {FileKind::kImage, "a BigTIFF image", ""}},
    Signature{0, "\0\0\0\x0CJXL \r\n\x87\n"sv, {FileKind::kImage, "a JPEG XL image", ""}},
    Signature{0, "\xFF\x0A"sv, {FileKind::kImage, "a JPEG XL image", ""}},
    Signature{0, "\0\0\0\x0CjP  \r\n\x87\n"sv, {FileKind::kImage, "a JPEG 2000 image", ""}},
    Signature{0, "\xFF\x4F\xFF\x51"sv, {FileKind::kImage, "a JPEG 2000 image", ""}},
    Signature{0, "P7\nWIDTH"sv, {FileKind::kImage, "a PAM image", ""}},
    Signature{0, "qoif"sv, {FileKind::kImage, "a QOI image", ""}},
    Signature{0, "8BPS\0"sv, {FileKind::kImage, "a Photoshop image", ""}},
    Signature{0, "gimp xcf"sv, {FileKind::kImage, "a GIMP image", ""}},
    Signature{0, "\x76\x2F\x31\x01"sv, {FileKind::kImage, "an OpenEXR image", ""}},
    Signature{0, "#?RADIANCE"sv, {FileKind::kImage, "a Radiance HDR image", ""}},
    Signature{0, "DDS \x7C\0\0\0"sv, {FileKind::kImage, "a DDS image", ""}},
    Signature{8, "AVI LIST"sv, {FileKind::kVideo, "a video (AVI)", ""}},
    Signature{0, "\x1A\x45\xDF\xA3"sv, {FileKind::kVideo, "a video (Matroska or WebM)", ""}},
    Signature{0, "\xFF\xFE\0\0"sv, {FileKind::kUtf16, "text in UTF-32", "save it as UTF-8"}},
    Signature{0, "\xFF\xFE"sv, {FileKind::kUtf16, "text in UTF-16", "save it as UTF-8"}},
    Signature{0, "\xFE\xFF"sv, {FileKind::kUtf16, "text in UTF-16", "save it as UTF-8"}},
};

uint64_t little_endian(std::string_view bytes) {
    uint64_t value = 0;
    for (size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
    return value;
}

/// The file's length must follow the signature, which is two letters only.
bool is_bmp(std::string_view start) {
    constexpr size_t kHeaders = 26;
    return start.starts_with("BM") && start.size() >= kHeaders && little_endian(start.substr(6, 4)) == 0 &&
           little_endian(start.substr(10, 4)) >= kHeaders && little_endian(start.substr(10, 4)) < 0x10000;
}

/// Netpbm's letter, a digit, a blank and, as in no list of labels, a number or a comment.
KnownFile netpbm_file(std::string_view start) {
    constexpr std::array kNames = {"a plain PBM image"sv, "a plain PGM image"sv, "a plain PPM image"sv,
                                   "a PBM image"sv,       "a PGM image"sv,       "a PPM image"sv};
    constexpr std::string_view kBlanks = " \t\n\r", kStartOfNumber = "#0123456789";
    if (start.size() < 3 || start[0] != 'P' || kBlanks.find(start[2]) == std::string_view::npos) return {};
    const size_t next = start.find_first_not_of(kBlanks, 2);
    const auto kind = static_cast<size_t>(start[1] - '1');
    if (next == std::string_view::npos || kStartOfNumber.find(start[next]) == std::string_view::npos) return {};
    return kind < kNames.size() ? KnownFile{FileKind::kImage, kNames[kind], ""} : KnownFile{};
}

/// Icons and cursors: zero, their type, and how many.
bool is_icon(std::string_view start) {
    return start.size() > 5 && (start.starts_with("\0\0\1\0"sv) || start.starts_with("\0\0\2\0"sv)) &&
           little_endian(start.substr(4, 2)) > 0;
}

/// ISO's base media format: a box, less than 16 MiB, of the type "ftyp", and its brand.
bool is_media(std::string_view start) {
    return start.size() > 8 && start[0] == '\0' && start.substr(4).starts_with("ftyp");
}

/// Of that format, by its brand. Brands that only say that there are images leave the codec to the list of
/// compatible ones.
KnownFile media_file(std::string_view start) {
    constexpr size_t kBrand = 8, kBrandBytes = 4, kCompatible = 16;
    std::string_view brand = start.substr(kBrand, kBrandBytes);
    const std::string_view compatible = start.substr(std::min(kCompatible, start.size()));
    if (brand == "mif1" || brand == "msf1") brand = compatible.find("avif") < compatible.size() ? "avif" : "heic";
    if (brand == "avif" || brand == "avis") return {FileKind::kImage, "an AVIF image", ""};
    if (brand == "crx ") return {FileKind::kImage, "a camera's raw file (CR3)", ""};
    if (brand.starts_with("hei") || brand.starts_with("hev")) return {FileKind::kImage, "a HEIC image", ""};
    return {FileKind::kVideo, "a video (MP4 or QuickTime)", ""};
}

/// PyTorch's archive has one folder, whose first file depends on the version.
KnownFile zip_file(std::string_view start) {
    constexpr size_t kNameLength = 26, kName = 30;
    constexpr std::array kPytorchFiles = {"data.pkl"sv, "data/"sv, "constants.pkl"sv, "constants/"sv,
                                          "version"sv,  "code/"sv, "extra/"sv,        "byteorder"sv};
    std::string_view name = start.substr(std::min(kName, start.size()));
    if (start.size() > kName) name = name.substr(0, little_endian(start.substr(kNameLength, 2)));
    const std::string_view inside = name.substr(name.find('/') + 1);
    const bool pytorch = std::any_of(kPytorchFiles.begin(), kPytorchFiles.end(),
                                     [&](std::string_view file) { return inside.starts_with(file); });
    if (pytorch && inside.size() < name.size()) return {FileKind::kPytorch, "a PyTorch file", ""};
    if (name.ends_with(".npy")) return {FileKind::kZip, "several NumPy arrays (.npz)", "save one with numpy.save()"};
    return {FileKind::kZip, "a zip archive", kUnpack};
}

/// An ONNX file begins with its version, field 1 of a protocol buffer, and one of the fields that follow it.
bool is_onnx(std::string_view start) {
    constexpr std::string_view kNextFields = "\x12\x1A\x22\x28\x32\x3A\x42\x72";
    constexpr char kVersionField = 0x08;
    constexpr int kMaxVersion = 31;
    return start.size() > 2 && start[0] == kVersionField && start[1] > 0 && start[1] <= kMaxVersion &&
           kNextFields.find(start[2]) != std::string_view::npos;
}

/// UTF-8 without control characters; the last one may be cut.
bool is_text(std::string_view start) {
    constexpr size_t kLongest = 4;
    for (size_t i = 0; i < start.size();) {
        const auto code = static_cast<unsigned char>(start[i]);
        const bool control = code < 0x20 && code != '\n' && code != '\r' && code != '\t';
        const size_t length = utf8_length(start.substr(i));
        if (control || code == 0x7F) return false;
        if (length == 0) return start.size() == kRecognisedBytes && start.size() - i < kLongest;
        i += length;
    }
    return true;
}

/// Every other byte of ASCII in UTF-16 is zero.
bool is_utf16(std::string_view start) {
    constexpr size_t kEnough = 8;
    if (start.size() < kEnough) return false;
    const auto zeros_at = [&](size_t first) {
        for (size_t i = 0; i < start.size() / 2 * 2; ++i) {
            if ((start[i] == '\0') != (i % 2 == first)) return false;
        }
        return true;
    };
    return zeros_at(0) || zeros_at(1);
}

std::string_view without_space(std::string_view text) {
    return text.substr(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
}

bool starts_with_tag(std::string_view text, std::string_view tag) {
    return text.size() >= tag.size() && std::equal(tag.begin(), tag.end(), text.begin(), [](char want, char have) {
               return want == (have >= 'A' && have <= 'Z' ? have - 'A' + 'a' : have);
           });
}

bool is_json(std::string_view text) {
    if (text.empty() || (text[0] != '{' && text[0] != '[')) return false;
    const std::string_view next = without_space(text.substr(1));
    return next.empty() ||
           (text[0] == '{' ? R"("})"sv : R"("{[]-0123456789)"sv).find(next[0]) != std::string_view::npos;
}

/// Of a text without its byte order mark.
KnownFile text_file(std::string_view text) {
    const std::string_view first = without_space(text);
    for (const std::string_view tag : {"<!doctype html"sv, "<html"sv, "<head"sv, "<body"sv, "<!--"sv}) {
        if (starts_with_tag(first, tag)) return {FileKind::kWebPage, "a web page", kNotTheFile};
    }
    if (first.starts_with("<svg") || (first.starts_with("<?xml") && first.find("<svg") != std::string_view::npos)) {
        return {FileKind::kImage, "an SVG image", ""};
    }
    if (first.starts_with("<?xml")) return {FileKind::kWebPage, "an XML document", kNotTheFile};
    if (is_json(first)) return {FileKind::kJson, "JSON", ""};
    return {FileKind::kText, "text", ""};
}

std::string_view view(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

}  // namespace

KnownFile recognise_file(std::span<const std::byte> bytes) {
    constexpr size_t kLengthBytes = 8;
    std::string_view start = view(bytes).substr(0, kRecognisedBytes);
    if (start.empty()) return {FileKind::kEmpty, "an empty file", ""};
    if (start.size() > kLengthBytes && start[kLengthBytes] == '{' && start[kLengthBytes - 1] == '\0') {
        return {FileKind::kSafetensors, "a safetensors file", ""};
    }
    for (const Signature &known : kSignatures) {
        if (start.size() > known.offset && start.substr(known.offset).starts_with(known.bytes)) return known.file;
    }
    if (start.starts_with("PK\x03\x04")) return zip_file(start);
    if (is_media(start)) return media_file(start);
    if (is_bmp(start)) return {FileKind::kImage, "a BMP image", ""};
    if (is_icon(start)) return {FileKind::kImage, "an icon (ICO)", ""};
    if (const KnownFile image = netpbm_file(start); !image.name.empty()) return image;
    if (start.size() > 1 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5) {
        return {FileKind::kPickle, "a pickle of Python", ""};
    }
    if (is_onnx(start)) return {FileKind::kOnnx, "an ONNX file", ""};
    if (start.size() > kLengthBytes && start.find_first_not_of('\0') == std::string_view::npos) {
        return {FileKind::kZeros, "a file that starts with zeros", "the download is incomplete"};
    }
    if (is_utf16(start)) return {FileKind::kUtf16, "text in UTF-16", "save it as UTF-8"};
    start = without_byte_order_mark(start);
    return is_text(start) ? text_file(start) : KnownFile{};
}

std::string found_text(std::span<const std::byte> start) {
    constexpr size_t kShown = 8, kShownText = 60;
    const KnownFile file = recognise_file(start);
    if (file.kind == FileKind::kUnknown) {
        return "a file that starts with '" + message::ascii(view(start).substr(0, kShown)) + "'";
    }
    std::string text(file.name);
    if (file.kind == FileKind::kText || file.kind == FileKind::kJson) {
        const std::string_view line = without_space(without_byte_order_mark(view(start)));
        text += ", '" + message::shortened(line.substr(0, line.find_first_of("\r\n")), kShownText) + "'";
    }
    return file.advice.empty() ? text : text + ": " + std::string(file.advice);
}

Status check_kind(std::span<const std::byte> start, const std::string &name, const ExpectedFile &expected) {
    const FileKind kind = recognise_file(start).kind;
    const bool possible = kind == FileKind::kUnknown || kind == FileKind::kEmpty ||
                          std::find(expected.kinds.begin(), expected.kinds.end(), kind) != expected.kinds.end();
    if (possible) return {};
    return message::bad_input(name, "expected " + std::string(expected.what) + ", found " + found_text(start));
}

Status read_expected(const std::string &path, const ExpectedFile &expected, std::vector<std::byte> *bytes) {
    FileStart start;
    if (Status status = read_start(path, kRecognisedBytes, &start); !status.ok()) return status;
    if (Status status = check_kind(start.bytes, path, expected); !status.ok()) return status;
    if (start.size > expected.most) {
        return message::bad_input(path, "expected " + std::string(expected.what) + " of at most " +
                                            std::to_string(expected.most) + " bytes, found " +
                                            std::to_string(start.size));
    }
    if (!start.is_all()) return read_file(path, bytes);
    *bytes = std::move(start.bytes);
    return {};
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
