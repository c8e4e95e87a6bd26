#include "npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "file.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

static_assert(std::endian::native == std::endian::little, "'<f4' is little-endian");

using Bytes = std::span<const std::byte>;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kDtype = "<f4";

/// NumPy's own limit of dimensions (64 since version 2).
constexpr size_t kMaxDimensions = 64;

/// The header: a Python dict literal with exactly the keys descr, fortran_order and shape, e.g.
/// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderParser {
  public:
    explicit HeaderParser(std::string_view text) : rest_(text) {}

    /// What is wrong, or nothing.
    std::string parse() {
        if (!parse_dict() && problem_.empty()) problem_ = malformed();
        return problem_;
    }

    std::vector<int64_t> shape;

  private:
    bool parse_dict() {
        if (!eat('{')) return false;
        while (!eat('}')) {
            if (!parse_item()) return false;
            if (!eat(',')) {
                if (!eat('}')) return false;
                break;
            }
        }
        skip_space();
        if (!rest_.empty()) return false;
        if (!descr_ || !fortran_order_ || !shape_) return fail("header lacks descr, fortran_order or shape");
        return true;
    }

    bool parse_item() {
        const std::optional<std::string_view> key = parse_string();
        if (!key || !eat(':')) return false;
        if (*key == "descr") return first(descr_, *key) && parse_descr();
        if (*key == "fortran_order") return first(fortran_order_, *key) && parse_fortran_order();
        if (*key == "shape") return first(shape_, *key) && parse_shape();
        return fail("header has the unknown key " + message::shortened(*key));
    }

    bool parse_descr() {
        const std::string expected = "expected dtype '" + std::string(kDtype) + "', found ";
        skip_space();
        if (rest_.starts_with('[') || rest_.starts_with('(') || rest_.starts_with('{')) {
            return fail(expected + "a structured one");
        }
        const std::optional<std::string_view> descr = parse_string();
        if (!descr) return false;
        if (*descr == kDtype) return true;
        const char *why = *descr == ">f4" ? " (big-endian)" : "";
        return fail(expected + "'" + message::shortened(*descr) + "'" + why);
    }

    bool parse_fortran_order() {
        if (eat("False")) return true;
        if (eat("True")) return fail("expected C order, found fortran_order True");
        return false;
    }

    bool parse_shape() {
        if (!eat('(')) return false;
        bool comma = true;
        while (!eat(')')) {
            if (!comma || !parse_dimension()) return false;
            comma = eat(',');
        }
        // (5) is a number in Python, (5,) a tuple.
        return shape.size() != 1 || comma;
    }

    bool parse_dimension() {
        if (shape.size() == kMaxDimensions) {
            return fail("shape has more than " + std::to_string(kMaxDimensions) + " dimensions");
        }
        if (eat('-')) return fail("shape has a negative dimension");
        const size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
        if (digits == 0 || (digits > 1 && rest_.front() == '0')) return false;
        int64_t value = 0;
        for (const char digit : rest_.substr(0, digits)) {
            const int next = digit - '0';
            if (value > (std::numeric_limits<int64_t>::max() - next) / 10) return fail("shape is too large");
            value = value * 10 + next;
        }
        rest_.remove_prefix(digits);
        shape.push_back(value);
        return true;
    }

    std::optional<std::string_view> parse_string() {
        const char quote = eat('\'') ? '\'' : '"';
        if (quote == '"' && !eat('"')) return std::nullopt;
        const size_t end = rest_.find_first_of("'\"\\\n");
        if (end == std::string_view::npos || rest_[end] != quote) return std::nullopt;
        const std::string_view text = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return text;
    }

    void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\n"), rest_.size())); }

    bool eat(std::string_view token) {
        skip_space();
        if (!rest_.starts_with(token)) return false;
        rest_.remove_prefix(token.size());
        return true;
    }
    bool eat(char token) { return eat(std::string_view(&token, 1)); }

    bool first(bool &seen, std::string_view key) {
        if (seen) return fail("header has two keys " + std::string(key));
        return seen = true;
    }

    bool fail(std::string problem) {
        problem_ = std::move(problem);
        return false;
    }

    std::string malformed() const {
        return "header is not a dict of descr, fortran_order and shape" +
               (rest_.empty() ? " (it ends early)" : " (at '" + message::shortened(rest_.substr(0, 20)) + "')");
    }

    std::string_view rest_;
    bool descr_ = false, fortran_order_ = false, shape_ = false;
    std::string problem_;
};

/// A file taken apart.
struct Sections {
    std::string_view header;
    Bytes data;
};

/// What is wrong, or nothing.
std::string split(Bytes file, Sections *out) {
    const std::string_view text(reinterpret_cast<const char *>(file.data()), file.size());
    if (!text.starts_with(kMagic)) {
        return "expected a .npy file, found one that " +
               (text.empty() ? "is empty" : "starts with '" + message::ascii(text.substr(0, kMagic.size())) + "'");
    }
    const size_t version_end = kMagic.size() + 2;
    if (text.size() < version_end) return "truncated in the magic bytes";
    const auto major = static_cast<unsigned char>(text[kMagic.size()]);
    const auto minor = static_cast<unsigned char>(text[kMagic.size() + 1]);
    if (major < 1 || major > 3 || minor != 0) {
        return "expected .npy version 1.0, 2.0 or 3.0, found " + std::to_string(major) + "." + std::to_string(minor);
    }
    const size_t length_bytes = major == 1 ? sizeof(uint16_t) : sizeof(uint32_t);
    const size_t start = version_end + length_bytes;
    if (text.size() < start) return "truncated in the header length";
    uint32_t length = 0;
    std::memcpy(&length, text.data() + version_end, length_bytes);
    if (length > text.size() - start) {
        return "expected a header of " + std::to_string(length) + " bytes, found " +
               std::to_string(text.size() - start) + " (truncated)";
    }
    *out = {text.substr(start, length), file.subspan(start + length)};
    return {};
}

/// What is wrong, or nothing.
std::string parse(Bytes file, Npy *out) {
    Sections sections;
    if (std::string problem = split(file, &sections); !problem.empty()) return problem;
    HeaderParser header(sections.header);
    if (std::string problem = header.parse(); !problem.empty()) return problem;

    const std::optional<int64_t> bytes = tensor_bytes(header.shape, sizeof(float));
    if (!bytes) return "shape " + message::shape_text(header.shape) + " is too large";
    const uint64_t expected = static_cast<uint64_t>(*bytes), found = sections.data.size();
    if (found != expected) {
        return "expected " + std::to_string(expected) + " bytes of data for shape " +
               message::shape_text(header.shape) + ", found " + std::to_string(found) +
               (found < expected ? " (truncated)" : " (trailing bytes)");
    }
    std::vector<float> data(static_cast<size_t>(expected / sizeof(float)));
    if (!data.empty()) std::memcpy(data.data(), sections.data.data(), static_cast<size_t>(expected));
    *out = {std::move(header.shape), std::move(data)};
    return {};
}

/// Magic, version 1.0 and the dict, padded as NumPy pads it: to a multiple of 64 bytes with a line feed at the end.
/// Nothing if the shape has too many dimensions.
std::optional<std::string> make_header(std::span<const int64_t> shape) {
    constexpr size_t kAlignment = 64;
    if (shape.size() > kMaxDimensions) return std::nullopt;
    std::string dict = "{'descr': '" + std::string(kDtype) + "', 'fortran_order': False, 'shape': (";
    for (size_t i = 0; i < shape.size(); ++i) dict += (i > 0 ? " " : "") + std::to_string(shape[i]) + ",";
    if (shape.size() > 1) dict.pop_back();
    dict += "), }";

    const size_t start = kMagic.size() + 2 + sizeof(uint16_t);
    const size_t end = (start + dict.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
    dict.resize(end - start - 1, ' ');
    dict += '\n';
    const auto length = static_cast<uint16_t>(dict.size());
    std::array<char, sizeof length> length_text{};
    std::memcpy(length_text.data(), &length, sizeof length);
    return std::string(kMagic) + '\1' + '\0' + std::string(length_text.data(), sizeof length) + dict;
}

}  // namespace

Status parse_npy(Bytes bytes, const std::string &name, Npy *out) try {
    const std::string problem = parse(bytes, out);
    return problem.empty() ? Status() : message::bad_input(name, problem);
} catch (...) {
    return message::from_exception(name);
}

Status read_npy(const std::string &path, Npy *out) {
    std::vector<std::byte> bytes;
    if (Status status = read_file(path, &bytes); !status.ok()) return status;
    return parse_npy(bytes, path, out);
}

Status serialize_npy(std::span<const int64_t> shape, std::span<const float> data, const std::string &name,
                     std::vector<std::byte> *out) try {
    const std::optional<std::string> header = make_header(shape);
    const std::optional<int64_t> bytes = tensor_bytes(shape, sizeof(float));
    if (!header || !bytes || static_cast<uint64_t>(*bytes) != data.size_bytes()) {
        return message::bad_input(name, "cannot be written: " + std::to_string(data.size()) +
                                            " values do not make the shape " + message::shape_text(shape));
    }
    std::vector<std::byte> file(header->size() + data.size_bytes());
    std::memcpy(file.data(), header->data(), header->size());
    if (!data.empty()) std::memcpy(file.data() + header->size(), data.data(), data.size_bytes());
    *out = std::move(file);
    return {};
} catch (...) {
    return message::from_exception(name);
}

Status write_npy(const std::string &path, std::span<const int64_t> shape, std::span<const float> data) {
    std::vector<std::byte> file;
    if (Status status = serialize_npy(shape, data, path, &file); !status.ok()) return status;
    return write_file_atomically(path, file);
}

}  // namespace shufflenet
