// The readers and writers of runtime/, and the reader of tuned numbers: what they accept, what they refuse, and whether
// the message says why.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "importers/recognise.h"
#include "networks/bounds.h"
#include "networks/catalog.h"
#include "networks/shufflenet_v2.h"
#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/element.h"
#include "runtime/src/file.h"
#include "runtime/src/file_kind.h"
#include "runtime/src/half.h"
#include "runtime/src/metadata.h"
#include "runtime/src/npy.h"
#include "runtime/src/safetensors.h"
#include "schedules/tuning.h"

namespace shufflenet {
namespace {

namespace fs = std::filesystem;

const std::string kFileName = "some.file";

std::span<const std::byte> as_bytes(const std::string &text) { return std::as_bytes(std::span(text)); }

template <typename T>
std::string raw(const T &value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

template <typename T>
std::string raw(const std::vector<T> &values) {
    std::string bytes;
    for (const T &value : values) bytes += raw(value);
    return bytes;
}

std::string repeated(const std::string &text, size_t times) {
    std::string result;
    for (size_t i = 0; i < times; ++i) result += text;
    return result;
}

bool one_line(const std::string &message) {
    return std::none_of(message.begin(), message.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

void expect_ok(const Status &status) { EXPECT_TRUE(status.ok()) << status.message(); }

/// An error that names the file and says all of `words`, on one line of bounded length.
void expect_refused(const Status &status, const std::string &file, const std::vector<std::string> &words) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), Code::kBadInput) << status.message();
    EXPECT_TRUE(status.message().starts_with((file.empty() ? "\"\"" : file) + ": ")) << status.message();
    EXPECT_TRUE(one_line(status.message())) << status.message();
    EXPECT_LT(status.message().size(), file.size() + 2000) << status.message();
    for (const std::string &word : words) {
        EXPECT_NE(status.message().find(word), std::string::npos) << word << " not in: " << status.message();
    }
}

/// A row of a table of things that are refused.
struct Refused {
    std::string what, input;
    std::vector<std::string> words;
};

/// A folder that is empty at first and gone at the end.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string pattern = (fs::temp_directory_path() / "readers_test.XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << pattern;
        path_ = pattern;
    }
    TemporaryFolder(const TemporaryFolder &) = delete;
    TemporaryFolder &operator=(const TemporaryFolder &) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    std::string operator/(const std::string &name) const { return (path_ / name).string(); }
    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const auto &entry : fs::directory_iterator(path_)) names.push_back(entry.path().filename().string());
        std::sort(names.begin(), names.end());
        return names;
    }

  private:
    fs::path path_;
};

void put(const std::string &path, const std::string &content) {
    std::ofstream file(path, std::ios::binary);
    file << content;
    ASSERT_TRUE(file.flush().good()) << path;
}

std::string get(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.good()) << path;
    return {std::istreambuf_iterator<char>(file), {}};
}

// file.h

TEST(ReadFile, GivesAllBytes) {
    const TemporaryFolder folder;
    for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{65536}, size_t{1'000'003}}) {
        std::string content(size, '\0');
        for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 % 251);
        put(folder / "file", content);
        std::vector<std::byte> bytes(7);
        expect_ok(read_file(folder / "file", &bytes));
        EXPECT_TRUE(std::ranges::equal(bytes, as_bytes(content))) << size;
    }
}

TEST(InputFile, ReadsPieces) {
    const TemporaryFolder folder;
    const std::string path = folder / "file";
    put(path, "0123456789");
    std::shared_ptr<const InputFile> file;
    expect_ok(InputFile::open(path, &file));
    EXPECT_EQ(file->size(), 10U);
    EXPECT_EQ(file->name(), path);
    std::string piece(4, ' ');
    expect_ok(file->read(3, std::as_writable_bytes(std::span(piece))));
    EXPECT_EQ(piece, "3456");
    expect_ok(file->read(10, {}));
    // Somebody else makes it shorter.
    fs::resize_file(path, 5);
    expect_refused(file->read(3, std::as_writable_bytes(std::span(piece))), path, {"expected 10 bytes", "only 5"});
}

TEST(InputFile, OpensRegularFilesOnly) {
    const TemporaryFolder folder;
    std::shared_ptr<const InputFile> file;
    expect_refused(InputFile::open(folder / "absent", &file), folder / "absent", {"cannot be opened"});
    expect_ok(InputFile::open("/dev/zero", &file));
    EXPECT_EQ(file, nullptr);
}

TEST(ReadFile, ReadsPipesAndFilesOfUnknownSize) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    ASSERT_EQ(::write(ends[1], "hello", 5), 5);
    ::close(ends[1]);
    std::vector<std::byte> bytes;
    expect_ok(read_file("/dev/fd/" + std::to_string(ends[0]), &bytes));
    EXPECT_TRUE(std::ranges::equal(bytes, as_bytes("hello")));
    ::close(ends[0]);

    expect_ok(read_file("/proc/self/stat", &bytes));  // Claims to be a regular file of 0 bytes.
    EXPECT_GT(bytes.size(), 0U);
}

TEST(ReadFile, NamesWhatItCannotRead) {
    const TemporaryFolder folder;
    put(folder / "file", "x");
    ASSERT_EQ(::symlink("loop", (folder / "loop").c_str()), 0);
    const std::vector<Refused> cases = {
        {"missing", folder / "missing", {"No such file or directory"}},
        {"folder", folder / ".", {"Is a directory"}},
        {"file as a folder", folder / "file/more", {"Not a directory"}},
        {"link to itself", folder / "loop", {"Too many levels of symbolic links"}},
        {"no name", "", {"No such file or directory"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        std::vector<std::byte> bytes(3);
        expect_refused(read_file(c.input, &bytes), c.input, c.words);
        EXPECT_EQ(bytes.size(), 3U);
    }
}

TEST(ReadFile, KeepsMessagesOnOneLine) {
    std::vector<std::byte> bytes;
    const Status status = read_file("no\nsuch\tfile", &bytes);
    EXPECT_TRUE(status.message().starts_with("no\\x0asuch\\x09file: ")) << status.message();
}

TEST(WriteFile, CreatesAndReplaces) {
    const TemporaryFolder folder;
    for (const std::string content : {"first, and longer", "second", ""}) {
        expect_ok(write_file_atomically(folder / "file", as_bytes(content)));
        EXPECT_EQ(get(folder / "file"), content);
    }
    EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
}

TEST(WriteFile, ReplacesRatherThanOverwrites) {
    const TemporaryFolder folder;
    put(folder / "file", "old");
    std::ifstream reader(folder / "file");
    expect_ok(write_file_atomically(folder / "file", as_bytes("new")));
    std::string seen;
    reader >> seen;
    EXPECT_EQ(seen, "old");
}

/// What a new file would not have by itself.
struct Kept {
    mode_t mode, umask;
    uid_t owner = 0;
    std::string attribute = {}, value = {};
};

/// A list that lets user 65534 read, as the kernel stores it: version 2, then (kind, access, user).
std::string access_list() {
    constexpr uint32_t kNobody = 65534, kUnused = 0xFFFFFFFF;
    const std::vector<std::tuple<uint16_t, uint16_t, uint32_t>> entries = {
        {1, 6, kUnused}, {2, 4, kNobody}, {4, 0, kUnused}, {16, 4, kUnused}, {32, 0, kUnused}};
    std::string list = raw(uint32_t{2});
    for (const auto &[kind, access, user] : entries) list += raw(kind) + raw(access) + raw(user);
    return list;
}

std::string attribute_of(const std::string &path, const std::string &name) {
    std::string value(1000, '\0');
    const ssize_t size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    value.resize(static_cast<size_t>(std::max<ssize_t>(0, size)));
    return value;
}

TEST(WriteFile, KeepsOwnerAccessRightsAndAttributes) {
    const TemporaryFolder folder;
    const std::string path = folder / "file";
    const std::vector<Kept> rows = {{0600, 0},
                                    {0644, 0},
                                    {0666, 077},
                                    {0751, 022},
                                    {0640, 022, 65534},
                                    {0644, 022, 0, "user.origin", "ours"},
                                    {0640, 022, 0, "system.posix_acl_access", access_list()}};
    for (const Kept &row : rows) {
        SCOPED_TRACE(testing::Message() << std::oct << row.mode << " " << row.owner << " " << row.attribute);
        put(path, "old");
        ASSERT_EQ(::chmod(path.c_str(), row.mode), 0);
        if (row.owner != 0 && ::chown(path.c_str(), row.owner, row.owner) != 0) continue;  // Only root can.
        if (!row.attribute.empty() &&
            ::setxattr(path.c_str(), row.attribute.c_str(), row.value.data(), row.value.size(), 0) != 0) {
            continue;  // The file system has none.
        }
        struct stat before {
        }, after{};
        ASSERT_EQ(::stat(path.c_str(), &before), 0);
        const mode_t mask = ::umask(row.umask);
        expect_ok(write_file_atomically(path, as_bytes("new")));
        ::umask(mask);
        ASSERT_EQ(::stat(path.c_str(), &after), 0);
        EXPECT_EQ(get(path), "new");
        EXPECT_EQ(after.st_mode, before.st_mode);
        EXPECT_EQ(after.st_uid, before.st_uid);
        EXPECT_EQ(after.st_gid, before.st_gid);
        EXPECT_EQ(attribute_of(path, row.attribute), row.value);
        EXPECT_NE(after.st_ino, before.st_ino) << "written in place";
        EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
        fs::remove(path);
    }
}

/// Writes beyond `bytes` fail while this lives, and would end the process.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit limit{bytes, before_.rlim_max};
        EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    FileSizeLimit(const FileSizeLimit &) = delete;
    FileSizeLimit &operator=(const FileSizeLimit &) = delete;
    ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

  private:
    rlimit before_{};
};

TEST(WriteFile, WritesAFileWithOtherNamesInPlace) {
    const TemporaryFolder folder;
    put(folder / "file", "an old content that is longer");
    fs::create_hard_link(folder / "file", folder / "other");
    const auto write = [&](const std::string &content) {
        testing::internal::CaptureStderr();
        Status status = write_file_atomically(folder / "file", as_bytes(content));
        EXPECT_EQ(
            testing::internal::GetCapturedStderr(),
            status.ok() ? "shufflenet: note: " + folder / "file" + ": written in place: it has 2 hard links\n" : "");
        return status;
    };
    for (const std::string content : {"new", "", "newer, and a little longer"}) {
        expect_ok(write(content));
        EXPECT_EQ(get(folder / "other"), content);
        EXPECT_TRUE(fs::equivalent(folder / "file", folder / "other"));
    }
    {
        const FileSizeLimit limit(1000);
        expect_refused(write(std::string(5000, 'x')), folder / "file", {"cannot be written", "File too large"});
    }
    EXPECT_EQ(get(folder / "other"), "newer, and a little longer");
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"file", "other"}));
}

TEST(WriteFile, WorksInTheCurrentFolder) {
    const TemporaryFolder folder;
    const fs::path before = fs::current_path();
    fs::current_path(folder / ".");
    expect_ok(write_file_atomically("file", as_bytes("here")));
    fs::current_path(before);
    EXPECT_EQ(get(folder / "file"), "here");
}

TEST(WriteFile, NamesWhatItCannotWrite) {
    const TemporaryFolder folder;
    put(folder / "file", "old");
    fs::create_directory(folder / "folder");
    const std::vector<Refused> cases = {
        {"missing folder", folder / "missing/file", {"cannot be written", "No such file or directory"}},
        {"folder", folder / "folder", {"Is a directory"}},
        {"file as a folder", folder / "file/more", {"Not a directory"}},
        {"long name", folder / std::string(300, 'x'), {"File name too long"}},
        {"no name", "", {"No such file or directory"}},
        {"full device", "/dev/full", {"No space left on device"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        expect_refused(write_file_atomically(c.input, as_bytes("new")), c.input, c.words);
    }
    EXPECT_EQ(get(folder / "file"), "old");
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"file", "folder"}));
}

TEST(WriteFile, LeavesTheOldFileWhenTheDiskIsFull) {
    const TemporaryFolder folder;
    put(folder / "file", "old");
    for (const std::string name : {"file", "new"}) {
        Status status;
        {
            const FileSizeLimit limit(1000);
            status = write_file_atomically(folder / name, as_bytes(std::string(5000, 'x')));
        }
        expect_refused(status, folder / name, {"cannot be written", "File too large"});
    }
    EXPECT_EQ(get(folder / "file"), "old");
    EXPECT_EQ(folder.names(), std::vector<std::string>{"file"});
}

TEST(WriteFile, KeepsSymbolicLinks) {
    const TemporaryFolder folder;
    put(folder / "file", "old");
    ASSERT_EQ(::symlink("file", (folder / "link").c_str()), 0);
    ASSERT_EQ(::symlink("created", (folder / "dangling").c_str()), 0);
    expect_ok(write_file_atomically(folder / "link", as_bytes("new")));
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_EQ(get(folder / "file"), "new");
    {
        const FileSizeLimit limit(1000);
        EXPECT_FALSE(write_file_atomically(folder / "link", as_bytes(std::string(5000, 'x'))).ok());
    }
    EXPECT_EQ(get(folder / "file"), "new");

    // As whole as any other: an error leaves nothing.
    {
        const FileSizeLimit limit(1000);
        EXPECT_FALSE(write_file_atomically(folder / "dangling", as_bytes(std::string(5000, 'x'))).ok());
    }
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"dangling", "file", "link"}));
    expect_ok(write_file_atomically(folder / "dangling", as_bytes("new")));
    EXPECT_TRUE(fs::is_symlink(folder / "dangling"));
    EXPECT_EQ(get(folder / "created"), "new");
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"created", "dangling", "file", "link"}));
}

TEST(WriteFile, FollowsLinksOverFolders) {
    const TemporaryFolder folder;
    fs::create_directories(folder / "a/b");
    fs::create_directory(folder / "c");
    fs::create_symlink("../../c/second", folder / "a/b/first");
    fs::create_symlink(folder / "a/made", folder / "c/second");
    fs::create_directory_symlink("a/b", folder / "into b");
    for (const std::string content : {"made", "replaced"}) {
        expect_ok(write_file_atomically(folder / "into b/first", as_bytes(content)));
        EXPECT_EQ(get(folder / "a/made"), content);
        EXPECT_TRUE(fs::is_symlink(folder / "a/b/first"));
        EXPECT_TRUE(fs::is_symlink(folder / "c/second"));
    }
    fs::create_symlink("round", folder / "round");
    expect_refused(write_file_atomically(folder / "round", as_bytes("new")), folder / "round",
                   {"cannot be written", "symbolic links"});
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"a", "c", "into b", "round"}));
}

TEST(WriteFile, TellsFilesApart) {
    const TemporaryFolder folder;
    put(folder / "file", "old");
    fs::create_directory_symlink(".", folder / "here");
    fs::create_symlink("file", folder / "link");
    fs::create_symlink("absent", folder / "dangling");
    fs::create_hard_link(folder / "file", folder / "hard");
    const std::vector<std::vector<std::string>> groups = {
        {"file", "link", "hard", "here/file"}, {"absent", "dangling", "here/absent"}, {"other"}};
    for (const auto &one : groups) {
        for (const auto &two : groups) {
            for (const std::string &a : one) {
                for (const std::string &b : two) {
                    EXPECT_EQ(written_file(folder / a) == written_file(folder / b), &one == &two) << a << " " << b;
                }
            }
        }
    }
    for (const std::string path : {"/dev/null", "/dev/stdout", "/"}) EXPECT_EQ(written_file(path), "");
    EXPECT_EQ(written_file(folder / "missing/file"), "");
}

TEST(WriteFile, WritesStraightToWhatIsNoRegularFile) {
    const TemporaryFolder folder;
    expect_ok(write_file_atomically("/dev/null", as_bytes("gone")));
    EXPECT_TRUE(fs::is_character_file("/dev/null"));

    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    const int reader = ::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
    expect_ok(write_file_atomically(folder / "pipe", as_bytes("hello")));
    std::string seen(16, '\0');
    seen.resize(static_cast<size_t>(std::max<ssize_t>(0, ::read(reader, seen.data(), seen.size()))));
    ::close(reader);
    EXPECT_EQ(seen, "hello");
    EXPECT_TRUE(fs::is_fifo(folder / "pipe"));
}

TEST(WriteFile, ReachesAFileThroughItsDescriptor) {
    const TemporaryFolder folder;
    put(folder / "redirected", "");
    const int out = ::open((folder / "redirected").c_str(), O_RDWR);
    expect_ok(write_file_atomically("/proc/self/fd/" + std::to_string(out), as_bytes("hello")));
    std::string seen(5, '\0');
    EXPECT_EQ(::pread(out, seen.data(), seen.size(), 0), 5);
    ::close(out);
    EXPECT_EQ(seen, "hello");
    EXPECT_EQ(folder.names(), std::vector<std::string>{"redirected"});
}

// safetensors.h

std::string container(const std::string &header, const std::string &data) {
    return raw(uint64_t{header.size()}) + header + data;
}

std::string entry(const std::string &name, const std::string &dtype, const std::string &shape,
                  const std::string &offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

const std::string kA = entry("a", "F32", "[2]", "[0,8]");
const std::string kData8 = "01234567";

/// A file with this content, read piece by piece.
class PieceByPiece {
  public:
    explicit PieceByPiece(const std::string &content) : path_(folder_ / "file") {
        put(path_, content);
        expect_ok(InputFile::open(path_, &file_));
    }
    const std::shared_ptr<const InputFile> &file() const { return file_; }
    /// As if the file were called kFileName.
    std::string message(const Status &status) const {
        const std::string &text = status.message();
        return text.starts_with(path_) ? kFileName + text.substr(path_.size()) : text;
    }

  private:
    TemporaryFolder folder_;
    std::string path_;
    std::shared_ptr<const InputFile> file_;
};

/// From memory; read piece by piece, a file must give the same, or be refused with the same words.
Status parse(const std::string &file, Safetensors *out) {
    const PieceByPiece pieces(file);
    Safetensors opened;
    const Status open_status = Safetensors::open(pieces.file(), &opened);
    Status status = Safetensors::parse(as_bytes(file), kFileName, out);
    EXPECT_EQ(open_status.code(), status.code());
    EXPECT_EQ(pieces.message(open_status), status.message());
    if (!status.ok() || !open_status.ok()) return status;
    EXPECT_EQ(opened.tensors().size(), out->tensors().size());
    for (const Tensor &tensor : opened.tensors()) {
        std::vector<std::byte> bytes(tensor.bytes);
        expect_ok(opened.read(tensor, 0, bytes));
        EXPECT_TRUE(std::ranges::equal(bytes, out->find(tensor.name)->data)) << tensor.name;
    }
    return status;
}

TEST(Safetensors, ReadsTensors) {
    const std::string b = entry("b", "I64", "[]", "[8,16]"), empty = entry("empty", "U8", "[3,0]", "[8,8]");
    const std::string metadata = R"("__metadata__":{"format":"pt","note":"x"})";
    const std::string file = container("{" + b + "," + metadata + "," + kA + "," + empty + "}  ", kData8 + "abcdefgh");
    Safetensors tensors;
    expect_ok(parse(file, &tensors));
    ASSERT_EQ(tensors.tensors().size(), 3U);
    ASSERT_NE(tensors.find("a"), nullptr);
    EXPECT_EQ(tensors.find("a")->dtype, "F32");
    EXPECT_EQ(tensors.find("a")->shape, std::vector<int64_t>{2});
    EXPECT_TRUE(std::ranges::equal(tensors.find("a")->data, as_bytes(kData8)));
    EXPECT_TRUE(std::ranges::equal(tensors.find("b")->data, as_bytes("abcdefgh")));
    EXPECT_TRUE(tensors.find("b")->shape.empty());
    EXPECT_TRUE(tensors.find("empty")->data.empty());
    for (const char *name : {"", "A", "aa", "c", "__metadata__"}) EXPECT_EQ(tensors.find(name), nullptr) << name;
}

TEST(Safetensors, ReadsAFileWithoutTensors) {
    Safetensors tensors;
    expect_ok(parse(container("{}", ""), &tensors));
    EXPECT_TRUE(tensors.tensors().empty());
}

TEST(Safetensors, KnowsTheSizeOfEveryType) {
    const std::map<std::string, int> sizes = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                              {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                                              {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
    for (const auto &[dtype, size] : sizes) {
        Safetensors tensors;
        const std::string offsets = "[0," + std::to_string(3 * size) + "]";
        expect_ok(
            parse(container("{" + entry("a", dtype, "[3]", offsets) + "}", std::string(3 * size, 'x')), &tensors));
    }
}

std::string header_of_length(uint64_t length) { return raw(length) + "{}      "; }

TEST(Safetensors, RefusesBrokenContainers) {
    const std::vector<Refused> cases = {
        {"empty file", "", {"found only 0 bytes"}},
        {"too short for the length", "1234567", {"found only 7 bytes"}},
        {"length beyond the file", header_of_length(9), {"at most 8", "9"}},
        {"length 2^63", header_of_length(uint64_t{1} << 63), {"9223372036854775808"}},
        {"length 2^64 - 1", header_of_length(UINT64_MAX), {"18446744073709551615"}},
        {"longer than 8 MB",
         container("{" + std::string(8'000'000, ' ') + "}", ""),
         {"at most 8000000 bytes", "8000002"}},
        {"a million values",
         container("{\"a\":[" + repeated("[],", 1'000'000), ""),
         {"header has more than 1000000 values"}},
        {"length 0", raw(uint64_t{0}), {"not a JSON object"}},
        {"a zip archive", "PK\x03\x04" + std::string(100, 'x'), {"a safetensors header", "a PyTorch file"}},
        {"a pickle", "\x80\x02" + std::string(100, 'x'), {"a safetensors header", "a PyTorch file"}},
        {"leading space", container(" {}", ""), {"not a JSON object"}},
        {"a list", container("[]", ""), {"not a JSON object"}},
        {"not JSON", container("{nonsense}", ""), {"header is not JSON"}},
        {"comment", container("{/* */}", ""), {"header is not JSON"}},
        {"cut JSON", container("{" + kA, kData8), {"header is not JSON"}},
        {"trailing JSON", container("{} {}", ""), {"header is not JSON"}},
        {"NUL padding", container({"{}\0\0", 4}, ""), {"header is not JSON", "NUL at byte 2"}},
        {"not UTF-8", container("{\"\xFF\":1}", ""), {"header is not JSON"}},
        {"huge number", container(R"({"a":1e999})", ""), {"header is not JSON", "too large"}},
        {"deep lists", container("{\"a\":" + repeated("[", 1'000'000), ""), {"header is nested"}},
        {"deep objects", container(repeated("{\"a\":", 300'000), ""), {"header is nested"}},
        {"duplicate tensor", container("{" + kA + "," + kA + "}", kData8), {"two keys a"}},
        {"metadata is a string", container(R"({"__metadata__":"x"})", ""), {"__metadata__", "not an object"}},
        {"metadata has a number", container(R"({"__metadata__":{"k":1}})", ""), {"__metadata__", "k is not a string"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        Safetensors tensors;
        expect_refused(parse(c.input, &tensors), kFileName, c.words);
    }
}

TEST(Safetensors, RefusesBrokenTensors) {
    const std::string key = "\"layer.w\":";
    const auto tensor = [](const char *dtype, const char *shape, const char *offsets) {
        return entry("layer.w", dtype, shape, offsets);
    };
    const std::vector<Refused> cases = {
        {"no object", key + "1", {"not an object"}},
        {"no dtype", key + R"({"shape":[2],"data_offsets":[0,8]})", {"no dtype"}},
        {"no shape", key + R"({"dtype":"F32","data_offsets":[0,8]})", {"no shape"}},
        {"no offsets", key + R"({"dtype":"F32","shape":[2]})", {"no data_offsets"}},
        {"another key", key + R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})", {"keys other than"}},
        {"dtype is a number", key + R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})", {"dtype is not a string"}},
        {"unknown dtype", tensor("F33", "[2]", "[0,8]"), {"unknown dtype F33"}},
        {"lower case dtype", tensor("f32", "[2]", "[0,8]"), {"unknown dtype f32"}},
        {"shape is a number", tensor("F32", "2", "[0,8]"), {"shape is not a list"}},
        {"negative shape", tensor("F32", "[-2]", "[0,8]"), {"shape is not a list"}},
        {"fractional shape", tensor("F32", "[2.0]", "[0,8]"), {"shape is not a list"}},
        {"dimension 2^63", tensor("F32", "[9223372036854775808]", "[0,8]"), {"shape is not a list"}},
        {"dimension 2^64", tensor("F32", "[18446744073709551616]", "[0,8]"), {"shape is not a list"}},
        {"product overflows", tensor("F32", "[4294967296,4294967296]", "[0,8]"), {"is too large"}},
        {"bytes overflow", tensor("F32", "[4611686018427387906]", "[0,8]"), {"is too large"}},
        {"overflow hidden by zero", tensor("F32", "[4294967296,4294967296,0]", "[0,8]"), {"is too large"}},
        {"offsets are a number", tensor("F32", "[2]", "8"), {"data_offsets is not a pair"}},
        {"one offset", tensor("F32", "[2]", "[8]"), {"data_offsets is not a pair"}},
        {"three offsets", tensor("F32", "[2]", "[0,4,8]"), {"data_offsets is not a pair"}},
        {"negative offset", tensor("F32", "[2]", "[-8,0]"), {"data_offsets is not a pair"}},
        {"reversed", tensor("F32", "[2]", "[8,0]"), {"[8, 0]", "reversed"}},
        {"beyond the file", tensor("F32", "[4]", "[0,16]"), {"[0, 16]", "exceed the 8 bytes"}},
        {"far beyond the file", tensor("F32", "[2]", "[9223372036854775799,9223372036854775807]"), {"exceed the 8"}},
        {"too many bytes", tensor("F32", "[1]", "[0,8]"), {"expected 4 bytes for F32 [1], found 8"}},
        {"too few bytes", tensor("F64", "[2]", "[0,8]"), {"expected 16 bytes for F64 [2], found 8"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        Safetensors tensors;
        std::vector<std::string> words = c.words;
        words.emplace_back("tensor layer.w");
        expect_refused(parse(container("{" + c.input + "}", kData8), &tensors), kFileName, words);
    }
}

TEST(Safetensors, RefusesOverlapsAndHoles) {
    const auto pair = [](const char *a, const char *b) {
        return "{" + entry("a", "U8", "[4]", a) + "," + entry("b", "U8", "[4]", b) + "}";
    };
    const std::vector<Refused> cases = {
        {"same place", pair("[0,4]", "[0,4]"), {"tensor b overlaps tensor a"}},
        {"overlap", pair("[3,7]", "[0,4]"), {"tensor a overlaps tensor b"}},
        {"hole at the start", pair("[2,6]", "[6,10]"), {"2 bytes before tensor a"}},
        {"hole in the middle", pair("[0,4]", "[5,9]"), {"1 bytes before tensor b"}},
        {"hole at the end", pair("[0,4]", "[4,8]"), {"2 bytes at the end of the file"}},
        {"nothing but a hole", "{}", {"10 bytes at the end of the file"}},
        {"empty tensor inside another",
         "{" + entry("a", "U8", "[10]", "[0,10]") + "," + entry("e", "U8", "[0]", "[5,5]") + "}",
         {"tensor e overlaps tensor a"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        Safetensors tensors;
        expect_refused(parse(container(c.input, "0123456789"), &tensors), kFileName, c.words);
    }
}

TEST(Safetensors, DuplicateKeysInsideAnEntryAreRefused) {
    Safetensors tensors;
    const std::string twice = R"({"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}})";
    expect_refused(parse(container(twice, kData8), &tensors), kFileName, {"two keys shape"});
    // The same key in two objects is no duplicate.
    expect_ok(parse(container("{" + kA + "," + entry("dtype", "U8", "[0]", "[8,8]") + "}", kData8), &tensors));
}

TEST(Safetensors, MessagesStayShortAndOnOneLine) {
    Safetensors tensors;
    const std::string long_name = repeated("\\n\\u00e9", 10'000);
    expect_refused(parse(container("{" + entry(long_name, "X", "[]", "[0,0]") + "}", ""), &tensors), kFileName,
                   {"tensor \\x0a\xC3\xA9", "...", "unknown dtype X"});
    const std::string shape = "[" + repeated("9,", 9'999) + "9]";
    expect_refused(parse(container("{" + entry("a", "U8", shape, "[0,0]") + "}", ""), &tensors), kFileName,
                   {"[9, 9, 9, 9, 9, 9, 9, 9, ...]"});
}

TEST(Safetensors, ErrorsLeaveTheOldValue) {
    const std::string good = container("{" + kA + "}", kData8);
    Safetensors tensors;
    expect_ok(parse(good, &tensors));
    EXPECT_FALSE(parse(container("{" + kA + "}", ""), &tensors).ok());
    EXPECT_NE(tensors.find("a"), nullptr);
}

/// Some tensors and what they view.
struct SampleTensors {
    std::string bytes = "0123456789abcdef";
    std::vector<Tensor> tensors = {
        {"z\n\"\xC3\xA9", "F32", {2}, as_bytes(bytes).first(8)},
        {"a", "U8", {1, 0}, {}},
        {"conv.weight", "F16", {1, 2, 2}, as_bytes(bytes).last(8)},
    };
};

std::string as_string(const std::vector<std::byte> &bytes) {
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

TEST(SerializeSafetensors, IsCanonical) {
    const SampleTensors sample;
    const std::string file = as_string(serialize_safetensors(sample.tensors));
    const std::string header = R"({"a":{"dtype":"U8","shape":[1,0],"data_offsets":[0,0]},)"
                               R"("conv.weight":{"dtype":"F16","shape":[1,2,2],"data_offsets":[0,8]},)"
                               "\"z\\n\\\"\xC3\xA9\":"
                               R"({"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
    const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
    EXPECT_EQ(file, container(padded, "89abcdef01234567"));
}

TEST(SerializeSafetensors, RoundTripIsByteIdentical) {
    const SampleTensors sample;
    const std::string once = as_string(serialize_safetensors(sample.tensors));
    Safetensors parsed;
    expect_ok(parse(once, &parsed));
    ASSERT_EQ(parsed.tensors().size(), sample.tensors.size());
    for (const Tensor &tensor : sample.tensors) {
        const Tensor *found = parsed.find(tensor.name);
        ASSERT_NE(found, nullptr) << tensor.name;
        EXPECT_EQ(found->dtype, tensor.dtype);
        EXPECT_EQ(found->shape, tensor.shape);
        EXPECT_TRUE(std::ranges::equal(found->data, tensor.data));
    }
    EXPECT_EQ(as_string(serialize_safetensors(parsed.tensors())), once);
    EXPECT_EQ(as_string(serialize_safetensors({})), container("{}      ", ""));
}

TEST(Safetensors, ReadsAHeaderOfEightMegabytes) {
    Safetensors tensors;
    expect_ok(parse(container("{" + std::string(7'999'998, ' ') + "}", ""), &tensors));
}

// file_kind.h

struct KnownStart {
    std::string what, bytes;
    FileKind kind;
    std::string found;
};

std::string zip_entry(const std::string &name) {
    return "PK\x03\x04" + std::string(22, 'x') + raw(static_cast<uint16_t>(name.size())) + raw(uint16_t{4}) + name +
           "more";
}

std::vector<KnownStart> known_starts() {
    using enum FileKind;
    const std::string tail(600, '\x01');
    const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5625608\n";
    const std::string json = R"({"error": "Repository not found"})";
    std::string tar(512, '\0');
    tar.replace(0, 4, "pets").replace(257, 5, "ustar");
    return {
        {"Git LFS", pointer, kGitLfsPointer, "a Git LFS pointer, not the file itself: run 'git lfs pull'"},
        {"HTML", "\n<!DOCTYPE html>\n<html lang=\"en\">", kWebPage, "a web page: the download is not the file itself"},
        {"HTML in upper case", "<HTML><HEAD>", kWebPage, "a web page"},
        {"XML", "\xEF\xBB\xBF<?xml version='1.0'?><Error>", kWebPage, "an XML document"},
        {"JSON", json, kJson, "JSON, '" + json + "'"},
        {"JSON with a mark", "\xEF\xBB\xBF[1]", kJson, "JSON, '[1]'"},
        {"text", "\nEntry not found\r\n", kText, "text, 'Entry not found'"},
        {"long text", std::string(511, 'x') + "\xC3\xBC", kText, "text, '" + std::string(60, 'x') + "...'"},
        {"UTF-16", std::string("\xFF\xFE{\0\n\0", 6), kUtf16, "text in UTF-16: save it as UTF-8"},
        {"UTF-16, big end first", std::string("\xFE\xFF\0{", 4), kUtf16, "text in UTF-16"},
        {"UTF-16 without a mark", std::string("c\0a\0t\0s\0", 8), kUtf16, "text in UTF-16"},
        {"gzip", "\x1F\x8B\x08" + tail, kArchive, "a gzip file: unpack it, e.g. with gunzip"},
        {"xz",
         std::string("\xFD"
                     "7zXZ\0",
                     6) +
             tail,
         kArchive, "an xz file: unpack it"},
        {"Zstandard", "\x28\xB5\x2F\xFD" + tail, kArchive, "a Zstandard file: unpack it"},
        {"bzip2", "BZh9" + tail, kArchive, "a bzip2 file: unpack it"},
        {"7-Zip", "7z\xBC\xAF\x27\x1C" + tail, kArchive, "a 7-Zip archive: unpack it"},
        {"tar", tar, kArchive, "a tar archive: unpack it"},
        {"zip", zip_entry("pets.safetensors"), kZip, "a zip archive: unpack it"},
        {"cut zip", "PK\x03\x04xxxxxxx", kZip, "a zip archive"},
        {".npz", zip_entry("x.npy"), kZip, "several NumPy arrays (.npz): save one with numpy.save()"},
        {"PyTorch", zip_entry("archive/data.pkl"), kPytorch, "a PyTorch file"},
        {"TorchScript", zip_entry("pets/data/0"), kPytorch, "a PyTorch file"},
        {"pickle", "\x80\x02\x8A\x0A" + tail, kPickle, "a pickle of Python"},
        {"safetensors", container("{}", ""), kSafetensors, "a safetensors file"},
        {"ONNX",
         "\x08\x07\x12\x07pytorch\x1A\x05"
         "1.13.0" +
             tail,
         kOnnx, "an ONNX file"},
        {"npy", "\x93NUMPY\x01" + tail, kNpy, "a NumPy array (.npy)"},
        {"HDF5", "\x89HDF\r\n\x1A\n" + tail, kOther, "an HDF5 file"},
        {"TensorFlow Lite", std::string("\x1C\0\0\0TFL3", 8) + tail, kOther, "a TensorFlow Lite model"},
        {"PDF", "%PDF-1.7\n", kImage, "a PDF document"},
        {"JPEG", "\xFF\xD8\xFF\xE0" + tail, kImage, "a JPEG image"},
        {"PNG", "\x89PNG\r\n\x1A\n" + tail, kImage, "a PNG image"},
        {"BMP", std::string("BM\x36\x10\0\0\0\0\0\0\x36\0\0\0", 14) + tail, kImage, "a BMP image"},
        {"SVG", "<?xml version='1.0'?>\n<svg>", kImage, "an SVG image"},
        {"zeros", std::string(4096, '\0'), kZeros, "a file that starts with zeros: the download is incomplete"},
        {"empty", "", kEmpty, "an empty file"},
        {"anything", "\x07\xF7\x01", kUnknown, R"(a file that starts with '\x07\xf7\x01')"},
        {"Latin-1", "cats\nH\xFCndin\n", kUnknown, "a file that starts with"},
    };
}

TEST(FileKind, IsRecognisedByTheStart) {
    for (const KnownStart &row : known_starts()) {
        SCOPED_TRACE(row.what);
        EXPECT_EQ(recognise_file(as_bytes(row.bytes)).kind, row.kind);
        const std::string found = found_text(as_bytes(row.bytes));
        EXPECT_TRUE(found.starts_with(row.found)) << found;
        EXPECT_TRUE(one_line(found)) << found;
        for (size_t size = 0; size < std::min<size_t>(row.bytes.size(), 40); ++size) {
            EXPECT_TRUE(one_line(found_text(as_bytes(row.bytes).first(size)))) << size;
        }
    }
}

TEST(FileKind, OtherFilesAreNamedByEveryReader) {
    const TemporaryFolder folder;
    struct Row {
        std::string name, expected;
        Status (*read)(const std::string &);
        std::vector<FileKind> kinds;  ///< Those that it takes for its own, or leaves to its own words.
    };
    using enum FileKind;
    const std::vector<Row> readers = {
        {"weights",
         "expected a safetensors header, found ",
         [](const std::string &path) {
             Safetensors file;
             return Safetensors::open(path, &file);
         },
         {kSafetensors, kPytorch, kPickle}},
        {"npy",
         "expected a .npy file, found ",
         [](const std::string &path) {
             Npy array;
             return read_npy(path, &array);
         },
         {kNpy}},
        {"labels",
         "expected a text with one label a line, found ",
         [](const std::string &path) {
             std::vector<std::string> labels;
             return read_labels(path, &labels);
         },
         {kText}},
        {"metadata",
         "expected metadata in JSON, found ",
         [](const std::string &path) {
             Metadata metadata;
             return read_metadata(path, &metadata);
         },
         {kText, kJson}},
    };
    for (const KnownStart &row : known_starts()) {
        if (row.kind == kUnknown || row.kind == kEmpty) continue;
        const std::string path = folder / "file";
        put(path, row.bytes);
        for (const Row &reader : readers) {
            SCOPED_TRACE(row.what + " as " + reader.name);
            if (std::ranges::find(reader.kinds, row.kind) != reader.kinds.end()) continue;
            if (row.bytes.size() < 8) continue;
            expect_refused(reader.read(path), path, {reader.expected + row.found});
        }
        if (row.kind == kPytorch || row.kind == kPickle || row.kind == kZip) {
            Safetensors file;
            expect_refused(Safetensors::open(path, &file), path, {"PyTorch file", "examples/pth_to_safetensors.py"});
        }
    }
}

/// Files with holes are read as far as they are looked at: reading 10 GB would take all memory.
TEST(FileKind, HugeFilesAreRefusedAtOnce) {
    const TemporaryFolder folder;
    constexpr uintmax_t kHuge = uintmax_t{10} << 30;
    const std::string path = folder / "file";
    const auto huge = [&](const std::string &start) {
        put(path, start);
        fs::resize_file(path, kHuge);
    };
    Safetensors weights;
    Npy array;
    std::vector<std::string> labels;
    Metadata metadata;
    huge("");
    for (const Status &status : {Safetensors::open(path, &weights), read_npy(path, &array), read_labels(path, &labels),
                                 read_metadata(path, &metadata)}) {
        expect_refused(status, path, {"found a file that starts with zeros"});
    }
    huge(container("{}", ""));
    expect_refused(Safetensors::open(path, &weights), path, {"10737418230 bytes at the end of the file belong to no"});
    huge("\x93NUMPY" + std::string("\x01\x00", 2) + raw(uint16_t{59}) +
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    expect_refused(read_npy(path, &array), path, {"expected 24 bytes", "(trailing bytes)"});
    huge("cat\n" + std::string(600, 'x'));
    expect_refused(read_labels(path, &labels), path, {"at most 16777216 bytes, found 10737418240"});
    huge("{" + std::string(600, ' '));
    expect_refused(read_metadata(path, &metadata), path, {"at most 16777216 bytes, found 10737418240"});
}

// checkpoint.h

constexpr int kSmallClasses = 5;

const GraphWeights &small_weights() {
    static const GraphWeights weights = [] {
        const networks::ShuffleNetV2 network{{1, 1, 2}, {1, 2, 2, 6}, 3, 9};
        networks::Graph graph = networks::shufflenet_v2(network, {32, 32});
        graph.name = "small";
        return GraphWeights(std::move(graph));
    }();
    return weights;
}

/// What torchvision would call its tensors, written by hand, so that it checks the graph.
struct Convolution {
    const char *conv, *norm;
    std::vector<int64_t> shape;
};

const std::vector<Convolution> kSmallConvolutions = {
    {"conv1.0", "conv1.1", {1, 3, 3, 3}},
    {"stage2.0.branch1.0", "stage2.0.branch1.1", {1, 1, 3, 3}},
    {"stage2.0.branch1.2", "stage2.0.branch1.3", {1, 1, 1, 1}},
    {"stage2.0.branch2.0", "stage2.0.branch2.1", {1, 1, 1, 1}},
    {"stage2.0.branch2.3", "stage2.0.branch2.4", {1, 1, 3, 3}},
    {"stage2.0.branch2.5", "stage2.0.branch2.6", {1, 1, 1, 1}},
    {"stage3.0.branch1.0", "stage3.0.branch1.1", {2, 1, 3, 3}},
    {"stage3.0.branch1.2", "stage3.0.branch1.3", {1, 2, 1, 1}},
    {"stage3.0.branch2.0", "stage3.0.branch2.1", {1, 2, 1, 1}},
    {"stage3.0.branch2.3", "stage3.0.branch2.4", {1, 1, 3, 3}},
    {"stage3.0.branch2.5", "stage3.0.branch2.6", {1, 1, 1, 1}},
    {"stage4.0.branch1.0", "stage4.0.branch1.1", {2, 1, 3, 3}},
    {"stage4.0.branch1.2", "stage4.0.branch1.3", {3, 2, 1, 1}},
    {"stage4.0.branch2.0", "stage4.0.branch2.1", {3, 2, 1, 1}},
    {"stage4.0.branch2.3", "stage4.0.branch2.4", {3, 1, 3, 3}},
    {"stage4.0.branch2.5", "stage4.0.branch2.6", {3, 3, 1, 1}},
    {"stage4.1.branch2.0", "stage4.1.branch2.1", {3, 3, 1, 1}},
    {"stage4.1.branch2.3", "stage4.1.branch2.4", {3, 1, 3, 3}},
    {"stage4.1.branch2.5", "stage4.1.branch2.6", {3, 3, 1, 1}},
    {"conv5.0", "conv5.1", {3, 6, 1, 1}},
};

struct Stored {
    std::string dtype = "F32";
    std::vector<int64_t> shape;
    std::vector<double> values;
};

using TestDict = std::map<std::string, Stored>;

/// Halves between -2 and 2 in steps of 1/4: exact in F16 too.
class Values {
  public:
    std::vector<double> any(const std::vector<int64_t> &shape) {
        size_t count = 1;
        for (const int64_t n : shape) count *= static_cast<size_t>(n);
        std::vector<double> values(count);
        for (double &value : values) value = static_cast<double>(random_() % 17) / 4 - 2;
        return values;
    }
    std::vector<double> positive(const std::vector<int64_t> &shape) {
        std::vector<double> values = any(shape);
        for (double &value : values) value = std::abs(value) + 0.25;
        return values;
    }

  private:
    std::mt19937 random_{1};
};

TestDict make_state_dict(const std::vector<Convolution> &convolutions, int64_t features, int64_t classes) {
    TestDict dict;
    Values values;
    for (const Convolution &c : convolutions) {
        const std::string norm = c.norm;
        const std::vector<int64_t> channels = {c.shape[0]};
        dict[std::string(c.conv) + ".weight"] = {"F32", c.shape, values.any(c.shape)};
        dict[norm + ".weight"] = {"F32", channels, values.any(channels)};
        dict[norm + ".bias"] = {"F32", channels, values.any(channels)};
        dict[norm + ".running_mean"] = {"F32", channels, values.any(channels)};
        dict[norm + ".running_var"] = {"F32", channels, values.positive(channels)};
    }
    dict["fc.weight"] = {"F32", {classes, features}, values.any({classes, features})};
    dict["fc.bias"] = {"F32", {classes}, values.any({classes})};
    return dict;
}

TestDict small_state_dict() { return make_state_dict(kSmallConvolutions, 3, kSmallClasses); }

TestDict state_dict_of(const networks::Graph &graph) {
    std::vector<Convolution> convolutions;
    for (const networks::Layer &layer : graph.layers) {
        if (layer.norm.empty()) continue;
        const Size kernel = layer.window.kernel;
        convolutions.push_back({layer.module.c_str(),
                                layer.norm.c_str(),
                                {layer.out_channels, layer.group_channels(), kernel.height, kernel.width}});
    }
    return make_state_dict(convolutions, graph.layers.back().in_channels(), 2);
}

/// A multiple of 1/4 up to 2.25 in magnitude, or a special value.
uint16_t half_bits(double value) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) return 0x7E00;
    if (std::isinf(value)) return sign | 0x7C00;
    if (value == 0) return sign;
    const int exponent = std::ilogb(value);
    const double mantissa = std::ldexp(std::abs(value), 10 - exponent) - 1024;
    return static_cast<uint16_t>(sign | (exponent + 15) << 10 | static_cast<int>(mantissa));
}

std::string to_raw(const Stored &stored) {
    std::string bytes;
    for (const double value : stored.values) {
        if (stored.dtype == "F32") bytes += raw(static_cast<float>(value));
        if (stored.dtype == "F64") bytes += raw(value);
        if (stored.dtype == "I64") bytes += raw(static_cast<int64_t>(value));
        if (stored.dtype == "F16") bytes += raw(half_bits(value));
        if (stored.dtype == "BF16")
            bytes += raw(static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
    }
    return bytes;
}

std::vector<std::byte> to_file(const TestDict &dict) {
    std::vector<std::string> data;
    data.reserve(dict.size());
    std::vector<Tensor> tensors;
    for (const auto &[name, stored] : dict) {
        data.push_back(to_raw(stored));
        tensors.push_back({name, stored.dtype, stored.shape, as_bytes(data.back())});
    }
    return serialize_safetensors(tensors);
}

Status read(const TestDict &dict, Checkpoint *checkpoint) {
    const std::vector<std::byte> file = to_file(dict);
    const NeededWeights needed = small_weights().needed();
    Safetensors parsed, opened;
    if (Status status = Safetensors::parse(file, kFileName, &parsed); !status.ok()) return status;
    Status status = read_checkpoint(parsed, kFileName, needed, checkpoint);

    const PieceByPiece pieces({reinterpret_cast<const char *>(file.data()), file.size()});
    expect_ok(Safetensors::open(pieces.file(), &opened));
    Checkpoint same;
    EXPECT_EQ(read_checkpoint(opened, kFileName, needed, &same).message(), status.message());
    for (size_t i = 0; i < same.layers.size(); ++i) {
        EXPECT_EQ(same.layers[i].weights, checkpoint->layers.at(i).weights);
        EXPECT_EQ(same.layers[i].bias, checkpoint->layers.at(i).bias);
    }
    return status;
}

TEST(Checkpoint, FoldsNormalisationIntoConvolution) {
    const TestDict dict = small_state_dict();
    Checkpoint checkpoint;
    expect_ok(read(dict, &checkpoint));
    EXPECT_EQ(checkpoint.classes, kSmallClasses);
    ASSERT_EQ(checkpoint.layers.size(), kSmallConvolutions.size() + 1);
    for (size_t i = 0; i < kSmallConvolutions.size(); ++i) {
        const Convolution &convolution = kSmallConvolutions[i];
        SCOPED_TRACE(convolution.conv);
        const FoldedLayer &folded = checkpoint.layers[i];
        const std::string norm = convolution.norm;
        const std::vector<double> &weights = dict.at(std::string(convolution.conv) + ".weight").values;
        ASSERT_EQ(folded.weights.size(), weights.size());
        ASSERT_EQ(folded.bias.size(), static_cast<size_t>(convolution.shape[0]));
        const size_t window = weights.size() / folded.bias.size();
        for (size_t c = 0; c < folded.bias.size(); ++c) {
            const auto normalise = [&](double x) {
                return (x - dict.at(norm + ".running_mean").values[c]) /
                           std::sqrt(dict.at(norm + ".running_var").values[c] + 0.00001) *
                           dict.at(norm + ".weight").values[c] +
                       dict.at(norm + ".bias").values[c];
            };
            EXPECT_NEAR(folded.bias[c], normalise(0), 1e-12);
            for (size_t k = c * window; k < (c + 1) * window; ++k) {
                EXPECT_NEAR(folded.bias[c] + 3 * folded.weights[k], normalise(3 * weights[k]), 1e-12);
            }
        }
    }
}

TEST(Checkpoint, FoldsToNumbersWorkedOutByHand) {
    TestDict dict = small_state_dict();
    dict["stage2.0.branch2.0.weight"].values = {5};
    dict["stage2.0.branch2.1.weight"].values = {2};
    dict["stage2.0.branch2.1.bias"].values = {1};
    dict["stage2.0.branch2.1.running_mean"].values = {3};
    dict["stage2.0.branch2.1.running_var"].values = {4};
    Checkpoint checkpoint;
    expect_ok(read(dict, &checkpoint));
    const FoldedLayer &folded = checkpoint.layers.at(3);  // After stem_conv and branch 1.
    // gamma / sqrt(var + eps) = 2 / sqrt(4.00001) = 0.99999875000234
    EXPECT_NEAR(folded.weights.at(0), 4.9999937500117, 1e-12);
    EXPECT_NEAR(folded.bias.at(0), -1.9999962500070, 1e-12);
}

TEST(Checkpoint, LeavesTheFullyConnectedLayerAsItIs) {
    const TestDict dict = small_state_dict();
    Checkpoint checkpoint;
    expect_ok(read(dict, &checkpoint));
    EXPECT_EQ(checkpoint.layers.back().weights, dict.at("fc.weight").values);
    EXPECT_EQ(checkpoint.layers.back().bias, dict.at("fc.bias").values);
}

TEST(Checkpoint, EveryPrecisionGivesTheSame) {
    TestDict dict = small_state_dict();
    Checkpoint single;
    expect_ok(read(dict, &single));
    for (const char *dtype : {"F16", "BF16", "F64"}) {
        SCOPED_TRACE(dtype);
        for (auto &[name, stored] : dict) stored.dtype = dtype;
        Checkpoint other;
        expect_ok(read(dict, &other));
        ASSERT_EQ(single.layers.size(), other.layers.size());
        for (size_t i = 0; i < single.layers.size(); ++i) {
            EXPECT_EQ(single.layers[i].weights, other.layers[i].weights) << i;
            EXPECT_EQ(single.layers[i].bias, other.layers[i].bias) << i;
        }
    }
}

TestDict with_prefix(const TestDict &dict, const std::string &prefix) {
    TestDict renamed;
    for (const auto &[name, stored] : dict) renamed[prefix + name] = stored;
    return renamed;
}

TEST(Checkpoint, OnePrefixOfAllNamesIsTakenOff) {
    TestDict dict = small_state_dict();
    dict["conv1.1.num_batches_tracked"] = {"I64", {}, {7}};
    Checkpoint plain;
    expect_ok(read(dict, &plain));
    EXPECT_EQ(plain.prefix, "");
    for (const std::string prefix : {"module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.",
                                     "model.backbone.", "ema.module."}) {
        SCOPED_TRACE(prefix);
        Checkpoint found;
        expect_ok(read(with_prefix(dict, prefix), &found));
        EXPECT_EQ(found.prefix, prefix);
        ASSERT_EQ(found.layers.size(), plain.layers.size());
        for (size_t i = 0; i < plain.layers.size(); ++i) EXPECT_EQ(found.layers[i].weights, plain.layers[i].weights);
    }
    TestDict averaged = with_prefix(dict, "module.");
    averaged["n_averaged"] = {"I64", {}, {3}};
    expect_ok(read(averaged, &plain));
}

TEST(Checkpoint, SeveralPrefixesAreNamed) {
    const TestDict dict = small_state_dict();
    const auto both = [&](const std::string &one, const std::string &other) {
        TestDict pair = with_prefix(dict, one);
        pair.merge(with_prefix(dict, other));
        return pair;
    };
    struct Row {
        std::string what;
        TestDict dict;
        std::vector<std::string> words;
    };
    TestDict parts = with_prefix(dict, "backbone.");
    parts.erase("backbone.fc.weight");
    parts.erase("backbone.fc.bias");
    parts["head.weight"] = dict.at("fc.weight");
    TestDict bad = with_prefix(dict, "module.");
    bad.erase("module.conv5.1.bias");
    const std::vector<Row> rows = {
        {"averaged", both("model.", "model_ema."), {"one set of weights, found 2", "'model.', 'model_ema.'"}},
        {"averaged beside", both("", "ema.module."), {"found 2", "'', 'ema.module.'"}},
        {"a part of something",
         parts,
         {"unexpected head.weight; missing backbone.fc.weight; missing backbone.fc.bias"}},
        {"one tensor lacks", bad, {"not weights of small: missing module.conv5.1.bias"}},
    };
    for (const Row &row : rows) {
        SCOPED_TRACE(row.what);
        Checkpoint checkpoint;
        expect_refused(read(row.dict, &checkpoint), kFileName, row.words);
    }
}

TEST(Checkpoint, UnexpectedTensorsAreNamedFirst) {
    TestDict dict;
    for (const auto &[name, stored] : small_state_dict()) dict["layer" + name] = stored;
    Checkpoint checkpoint;
    const Status status = read(dict, &checkpoint);
    expect_refused(status, kFileName, {"small: unexpected layerconv1.0.weight; ", " more; missing conv1.0.weight; "});
}

/// Names, types and values, or the error.
std::string canonical_text(const TestDict &dict, Precision precision) {
    const std::vector<std::byte> file = to_file(dict);
    Safetensors parsed;
    expect_ok(Safetensors::parse(file, kFileName, &parsed));
    CanonicalWeights weights;
    const Status status = canonical_weights(parsed, kFileName, "module.", precision, &weights);
    if (!status.ok()) return status.message();
    std::string text;
    for (const Tensor &tensor : weights.tensors) {
        text += tensor.name + " " + tensor.dtype;
        for (size_t i = 0; i < tensor.data.size() / element_bytes(*element_type(tensor.dtype)); ++i) {
            text += " " + std::to_string(element_to_double(*element_type(tensor.dtype), tensor.data.data(), i));
        }
        text += "\n";
    }
    return text;
}

TEST(Canonical, TypesBecomeOneOfTwo) {
    const TestDict dict = {{"module.a", {"F64", {2}, {0.5, -2}}},
                           {"module.b", {"BF16", {1}, {1.25}}},
                           {"module.c", {"F16", {1}, {-0.25}}},
                           {"module.d", {"F32", {1}, {2}}},
                           {"module.num_batches_tracked", {"I64", {}, {7}}}};
    const std::string values[] = {" 0.500000 -2.000000\n", " 1.250000\n", " -0.250000\n", " 2.000000\n"};
    const auto text = [&](const char *a, const char *b, const char *c, const char *d) {
        return std::string("a ") + a + values[0] + "b " + b + values[1] + "c " + c + values[2] + "d " + d + values[3];
    };
    EXPECT_EQ(canonical_text(dict, Precision::kAsItIs), text("F32", "F32", "F16", "F32"));
    EXPECT_EQ(canonical_text(dict, Precision::kSingle), text("F32", "F32", "F32", "F32"));
    EXPECT_EQ(canonical_text(dict, Precision::kHalf), text("F16", "F16", "F16", "F16"));
    // Rounded once: by way of a float this would be a tie, and 1.
    EXPECT_EQ(canonical_text({{"x", {"F64", {1}, {1 + 0x1p-11 + 0x1p-40}}}}, Precision::kHalf), "x F16 1.000977\n");
    for (const char *dtype : {"F64", "BF16"}) {
        EXPECT_NE(canonical_text({{"x", {dtype, {1}, {0x1p20}}}}, Precision::kHalf).find("too large for F16"),
                  std::string::npos);
    }
    EXPECT_NE(canonical_text({{"x", {"F64", {1}, {1e39}}}}, Precision::kAsItIs).find("too large for F32"),
              std::string::npos);
}

TEST(Checkpoint, IgnoresCountsOfBatches) {
    TestDict dict = small_state_dict();
    for (const Convolution &c : kSmallConvolutions) {
        dict[std::string(c.norm) + ".num_batches_tracked"] = {"I64", {}, {7}};
    }
    Checkpoint checkpoint;
    expect_ok(read(dict, &checkpoint));
    dict["fc.num_batches_tracked"] = {"I64", {}, {7}};
    expect_refused(read(dict, &checkpoint), kFileName, {"unexpected fc.num_batches_tracked"});
}

TEST(Checkpoint, TakesTheClassCountFromTheFile) {
    for (const int classes : {1, 2, 1000, kMaxClasses}) {
        TestDict dict = small_state_dict();
        dict["fc.weight"] = {"F32", {classes, 3}, std::vector<double>(3 * size_t(classes), 0.5)};
        dict["fc.bias"] = {"F32", {classes}, std::vector<double>(classes, 0.5)};
        Checkpoint checkpoint;
        expect_ok(read(dict, &checkpoint));
        EXPECT_EQ(checkpoint.classes, classes);
        EXPECT_EQ(checkpoint.layers.back().bias.size(), size_t(classes));
    }
}

/// A change to a good state_dict, and what the error must say.
struct Damage {
    std::string what;
    void (*apply)(TestDict &);
    std::vector<std::string> words;
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<Damage> kDamages = {
    {"missing weights", [](TestDict &d) { d.erase("conv5.0.weight"); }, {"missing conv5.0.weight"}},
    {"missing variance",
     [](TestDict &d) { d.erase("stage4.1.branch2.4.running_var"); },
     {"missing stage4.1.branch2.4.running_var"}},
    {"missing fc.weight", [](TestDict &d) { d.erase("fc.weight"); }, {"missing fc.weight"}},
    {"missing fc.bias", [](TestDict &d) { d.erase("fc.bias"); }, {"missing fc.bias"}},
    {"extra", [](TestDict &d) { d["extra.weight"] = d["fc.bias"]; }, {"unexpected extra.weight"}},
    {"extra name of two lines", [](TestDict &d) { d["a\nb"] = d["fc.bias"]; }, {"unexpected a\\x0ab"}},
    {"bias of a convolution",
     [](TestDict &d) {
         d["conv1.0.bias"] = {"F32", {1}, {0}};
     },
     {"unexpected conv1.0.bias"}},
    {"kernel size",
     [](TestDict &d) {
         d["conv1.0.weight"] = {"F32", {1, 3, 5, 5}, std::vector<double>(75)};
     },
     {"conv1.0.weight has shape [1, 3, 5, 5], expected [1, 3, 3, 3]"}},
    {"transposed",
     [](TestDict &d) {
         d["stage4.0.branch1.2.weight"].shape = {2, 3, 1, 1};
     },
     {"stage4.0.branch1.2.weight has shape [2, 3, 1, 1], expected [3, 2, 1, 1]"}},
    {"flat",
     [](TestDict &d) {
         d["conv5.0.weight"].shape = {3, 6};
     },
     {"[3, 6], expected [3, 6, 1, 1]"}},
    {"scalar for one channel", [](TestDict &d) { d["conv1.1.bias"].shape = {}; }, {"conv1.1.bias has shape []"}},
    {"fc.weight with a window",
     [](TestDict &d) {
         d["fc.weight"].shape = {5, 3, 1, 1};
     },
     {"fc.weight has shape [5, 3, 1, 1], expected [classes, 3]"}},
    {"fc.weight is transposed",
     [](TestDict &d) {
         d["fc.weight"].shape = {3, 5};
     },
     {"fc.weight has shape [3, 5], expected [classes, 3]"}},
    {"no classes",
     [](TestDict &d) {
         d["fc.weight"] = {"F32", {0, 3}, {}};
     },
     {"fc.weight has shape [0, 3]", "1 to 100000 classes"}},
    {"too many classes",
     [](TestDict &d) {
         d["fc.weight"] = {"F32", {100'001, 3}, std::vector<double>(300'003)};
     },
     {"fc.weight has shape [100001, 3]", "1 to 100000 classes"}},
    {"fc.bias disagrees",
     [](TestDict &d) {
         d["fc.bias"] = {"F32", {4}, {1, 2, 3, 4}};
     },
     {"fc.bias has shape [4], expected [5]"}},
    {"integers",
     [](TestDict &d) { d["fc.bias"].dtype = "I64"; },
     {"fc.bias has dtype I64, expected F32, F16, BF16 or F64"}},
    {"double beyond float",
     [](TestDict &d) {
         d["conv5.0.weight"].dtype = "F64";
         d["conv5.0.weight"].values[7] = -1e300;
     },
     {"conv5.0.weight has the value -1e+300 at element 7, expected a finite float"}},
    {"infinite double",
     [](TestDict &d) {
         d["fc.bias"].dtype = "F64";
         d["fc.bias"].values[2] = kInfinity;
     },
     {"fc.bias has the value inf at element 2"}},
    {"nan in bfloat16",
     [](TestDict &d) {
         d["fc.bias"].dtype = "BF16";
         d["fc.bias"].values[3] = kNan;
     },
     {"fc.bias has the value nan at element 3"}},
    {"nan", [](TestDict &d) { d["conv5.0.weight"].values[7] = kNan; }, {"conv5.0.weight", "nan at element 7"}},
    {"infinite mean", [](TestDict &d) { d["conv5.1.running_mean"].values[2] = kInfinity; }, {"running_mean", "inf"}},
    {"infinite scale", [](TestDict &d) { d["conv5.1.weight"].values[0] = -kInfinity; }, {"conv5.1.weight", "-inf"}},
    {"nan in fc", [](TestDict &d) { d["fc.weight"].values[14] = kNan; }, {"fc.weight", "nan at element 14"}},
    {"nan in fc.bias", [](TestDict &d) { d["fc.bias"].values[4] = kNan; }, {"fc.bias", "nan at element 4"}},
    {"infinite half",
     [](TestDict &d) {
         d["fc.bias"].dtype = "F16";
         d["fc.bias"].values[1] = kInfinity;
     },
     {"fc.bias", "inf at element 1"}},
    {"infinite variance",
     [](TestDict &d) { d["conv1.1.running_var"].values[0] = kInfinity; },
     {"conv1.1.running_var", "inf"}},
    {"negative variance",
     [](TestDict &d) { d["conv1.1.running_var"].values[0] = -0.5; },
     {"conv1.1.running_var has the value -0.5 at element 0, expected a finite float from 0 up"}},
    {"overflow when folded",
     [](TestDict &d) {
         d["conv1.0.weight"].values[3] = 3e38;
         d["conv1.1.weight"].values[0] = 100;
     },
     {"conv1.0.weight folded with conv1.1 is too large for a float"}},
    {"shift overflows when folded",
     [](TestDict &d) {
         d["conv1.1.running_mean"].values[0] = 3e38;
         d["conv1.1.weight"].values[0] = 100;
     },
     {"conv1.0.weight folded with conv1.1 is too large for a float"}},
    {"several",
     [](TestDict &d) {
         d.erase("conv1.0.weight");
         d["extra"] = d["fc.bias"];
         d["fc.bias"].dtype = "I64";
     },
     {"unexpected extra; missing conv1.0.weight; fc.bias has dtype I64, expected F32, F16, BF16 or F64"}},
    {"several bad values",
     [](TestDict &d) {
         d["fc.bias"].values[0] = kNan;
         d["conv1.1.running_var"].values[0] = -1;
     },
     {"conv1.1.running_var", "; fc.bias"}},
};

TEST(Checkpoint, NamesEveryTensorThatIsWrong) {
    for (const Damage &damage : kDamages) {
        SCOPED_TRACE(damage.what);
        TestDict dict = small_state_dict();
        damage.apply(dict);
        Checkpoint checkpoint;
        const Status status = read(dict, &checkpoint);
        expect_refused(status, kFileName, damage.words);
        EXPECT_TRUE(checkpoint.layers.empty());
        // One fault, one culprit.
        const bool several = damage.what.starts_with("several");
        EXPECT_EQ(status.message().find(';') != std::string::npos, several) << status.message();
    }
}

TEST(Checkpoint, ListsAFewAndCountsTheRest) {
    TestDict dict = small_state_dict();
    for (int i = 0; i < 8; ++i) dict["extra" + std::to_string(i)] = dict["fc.bias"];
    Checkpoint checkpoint;
    const Status eight = read(dict, &checkpoint);
    expect_refused(eight, kFileName, {"unexpected extra0", "unexpected extra7"});
    EXPECT_EQ(eight.message().find("more"), std::string::npos) << eight.message();
    dict["extra8"] = dict["extra9"] = dict["fc.bias"];
    expect_refused(read(dict, &checkpoint), kFileName, {"unexpected extra7; and 2 more"});
}

TEST(Checkpoint, TellsWhichNetworkTheFileFits) {
    std::vector<GraphWeights> published;
    std::vector<NeededWeights> all;
    for (networks::Graph &graph : published_graphs(Family::kShuffleNetV2)) published.emplace_back(std::move(graph));
    for (const GraphWeights &weights : published) all.push_back(weights.needed());
    const auto fit = [&](const TestDict &dict, const NeededWeights &needed) {
        const std::vector<std::byte> bytes = to_file(dict);
        Safetensors file;
        expect_ok(Safetensors::parse(bytes, kFileName, &file));
        StateDict found;
        return check_state_dict(file, kFileName, needed, &found, all);
    };
    for (const GraphWeights &of : published) {
        TestDict dict = state_dict_of(of.graph());
        expect_ok(fit(dict, of.needed()));
        dict.erase("conv5.1.bias");  // A fault of its own does not hide what it is.
        for (const NeededWeights &other : all) {
            const std::string &name = of.graph().name;
            SCOPED_TRACE(name + " as " + std::string(other.network));
            const Status status = fit(dict, other);
            expect_refused(status, kFileName, {"not weights of " + std::string(other.network)});
            const bool hint = status.message().find(", rather of " + name) != std::string::npos;
            EXPECT_EQ(hint, name != other.network) << status.message();
        }
    }
    const Status unrelated = fit({{"weight", {"F32", {1}, {1}}}}, all[0]);
    expect_refused(unrelated, kFileName, {"missing conv1.0.weight", "more"});
    EXPECT_EQ(unrelated.message().find("rather"), std::string::npos) << unrelated.message();
}

TEST(Checkpoint, TrainedWeightsAreRead) {
#ifdef SHUFFLENET_SHARED_DATA
    const std::string path = std::string(SHUFFLENET_SHARED_DATA) + "/cifar10_x0_5.safetensors";
#else
    const std::string path;
#endif
    if (!fs::exists(path)) GTEST_SKIP() << "no " << path;
    std::vector<std::byte> bytes;
    expect_ok(read_file(path, &bytes));
    Safetensors file;
    expect_ok(Safetensors::parse(bytes, path, &file));
    Checkpoint checkpoint;
    const GraphWeights weights(*networks::published_network("shufflenet_v2_x0_5", {64, 64}, 1000));
    expect_ok(read_checkpoint(file, path, weights.needed(), &checkpoint));
    EXPECT_EQ(checkpoint.classes, 10);
}

TEST(Half, KnownValues) {
    const std::map<uint16_t, double> known = {
        {0x0000, 0.0},  {0x0001, 0x1p-24},      {0x03FF, 1023 * 0x1p-24}, {0x0400, 0x1p-14}, {0x3555, 0.333251953125},
        {0x3C00, 1.0},  {0x3C01, 1.0009765625}, {0x4248, 3.140625},       {0x7BFF, 65504.0}, {0x7C00, kInfinity},
        {0xC000, -2.0}, {0xFC00, -kInfinity},
    };
    for (const auto &[bits, value] : known) EXPECT_EQ(half_to_float(bits), value) << bits;
    EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
}

TEST(Half, EveryValueAgreesWithItsBits) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const uint32_t sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
        const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
        const uint32_t wide = sign | wide_exponent << 23 | mantissa << 13;
        float expected = 0;
        std::memcpy(&expected, &wide, sizeof wide);
        if (exponent == 0) expected = (sign != 0 ? -1.0F : 1.0F) * static_cast<float>(mantissa) / 16777216.0F;
        const double found = half_to_float(static_cast<uint16_t>(bits));
        if (std::isnan(expected)) {
            EXPECT_TRUE(std::isnan(found)) << bits;
        } else {
            EXPECT_EQ(found, double{expected}) << bits;
        }
    }
}

TEST(Half, RoundsToNearestEven) {
    const auto half_of = [](double value) { return int{to_half(value).value_or(0x7C00)}; };
    for (int bits = 0; bits < 0x7C00; ++bits) {
        const double value = half_to_float(static_cast<uint16_t>(bits));
        // The next one of the greatest would be 2^16.
        const double next = bits == 0x7BFF ? 0x1p16 : half_to_float(static_cast<uint16_t>(bits + 1));
        const double middle = (value + next) / 2;
        ASSERT_EQ(half_of(value), bits);
        ASSERT_EQ(half_of(-value), bits | 0x8000);
        ASSERT_EQ(half_of(std::nextafter(middle, 0)), bits) << middle;
        ASSERT_EQ(half_of(middle), bits + bits % 2) << middle;
        ASSERT_EQ(half_of(std::nextafter(middle, kInfinity)), bits + 1) << middle;
    }
    EXPECT_EQ(half_of(0x1p-1074), 0);
    for (const double none : {65520.0, 1e300, kInfinity, std::nan("")}) EXPECT_FALSE(to_half(none)) << none;
}

// npy.h

std::string npy(const std::string &header, const std::string &data, int major = 1, int minor = 0) {
    std::string file = std::string("\x93NUMPY") + static_cast<char>(major) + static_cast<char>(minor);
    file += major == 1 ? raw(static_cast<uint16_t>(header.size())) : raw(static_cast<uint32_t>(header.size()));
    return file + header + data;
}

/// A header as numpy.save writes it.
std::string npy_header(const std::string &shape, const std::string &descr = "'<f4'",
                       const std::string &fortran_order = "False") {
    return "{'descr': " + descr + ", 'fortran_order': " + fortran_order + ", 'shape': " + shape + ", }          \n";
}

const std::string kSixFloats = raw(std::vector<float>{1, 2, 3, 4, 5, -6});

Status parse(const std::string &file, Npy *out) { return parse_npy(as_bytes(file), kFileName, out); }

TEST(Npy, ReadsEveryVersion) {
    for (const int major : {1, 2, 3}) {
        Npy array;
        expect_ok(parse(npy(npy_header("(2, 3)"), kSixFloats, major), &array));
        EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
        EXPECT_EQ(array.data, (std::vector<float>{1, 2, 3, 4, 5, -6}));
    }
}

TEST(Npy, ReadsEveryShape) {
    const std::map<std::string, std::vector<int64_t>> shapes = {
        {"(6,)", {6}}, {"( 6 , )", {6}}, {"(1,6)", {1, 6}},        {"(1, 2, 3,)", {1, 2, 3}},
        {"()", {}},    {"(0,)", {0}},    {"(3, 0, 2)", {3, 0, 2}}, {"(1, 1, 1, 1, 6)", {1, 1, 1, 1, 6}},
    };
    for (const auto &[text, shape] : shapes) {
        SCOPED_TRACE(text);
        size_t count = 1;
        for (const int64_t n : shape) count *= static_cast<size_t>(n);
        Npy array;
        expect_ok(parse(npy(npy_header(text), kSixFloats.substr(0, 4 * count)), &array));
        EXPECT_EQ(array.shape, shape);
        EXPECT_EQ(array.data.size(), count);
    }
}

TEST(Npy, ReadsOtherSpellingsOfTheHeader) {
    for (const std::string header : {
             R"({"shape": (6,), "fortran_order": False, "descr": "<f4"})",
             "{'descr':'<f4','fortran_order':False,'shape':(6,)}",
             "{ 'fortran_order' : False , 'descr' : '<f4' , 'shape' : ( 6 , ) , } \n",
         }) {
        Npy array;
        expect_ok(parse(npy(header, kSixFloats.substr(0, 24)), &array));
        EXPECT_EQ(array.shape, std::vector<int64_t>{6});
    }
}

TEST(Npy, RefusesWhatItDoesNotMean) {
    const std::string shape = npy_header("(2, 3)");
    const auto with_shape = [](const std::string &text) { return npy(npy_header(text), kSixFloats); };
    const auto with_dtype = [](const std::string &text) { return npy(npy_header("(2, 3)", text), kSixFloats); };
    const std::vector<Refused> cases = {
        {"empty", "", {"expected a .npy file", "empty"}},
        {"PNG", "\x89PNG\r\n\x1A\n", {"expected a .npy file, found a PNG image"}},
        {"cut magic", "\x93NUM", {"expected a .npy file"}},
        {"no version", "\x93NUMPY\x01", {"truncated"}},
        {"no length", "\x93NUMPY" + std::string("\x01\x00\x10", 3), {"truncated"}},
        {"version 0.0", npy(shape, kSixFloats, 0), {"version 1.0, 2.0 or 3.0", "found 0.0"}},
        {"version 4.0", npy(shape, kSixFloats, 4), {"found 4.0"}},
        {"version 1.1", npy(shape, kSixFloats, 1, 1), {"found 1.1"}},
        {"version 255.255", npy(shape, kSixFloats, 255, 255), {"found 255.255"}},
        {"cut header",
         npy(shape, "").substr(0, 40),
         {"expected a header of " + std::to_string(shape.size()) + " bytes, found 30"}},
        {"header of 4 GiB", std::string("\x93NUMPY\x02\0\xFF\xFF\xFF\xFF{}", 14), {"4294967295", "found 2"}},
        {"header of 70 kB",
         npy(npy_header("(2, 3)") + std::string(70'000, ' '), kSixFloats, 2),
         {"at most 65535 bytes"}},
        {"truncated", npy(shape, kSixFloats.substr(1)), {"expected 24 bytes", "[2, 3]", "found 23 (truncated)"}},
        {"no data", npy(shape, ""), {"expected 24 bytes", "found 0 (truncated)"}},
        {"trailing", npy(shape, kSixFloats + "x"), {"expected 24 bytes", "found 25 (trailing bytes)"}},
        {"big-endian", with_dtype("'>f4'"), {"expected dtype '<f4', found '>f4' (big-endian)"}},
        {"double", with_dtype("'<f8'"), {"expected dtype '<f4', found '<f8'"}},
        {"half", with_dtype("'<f2'"), {"found '<f2'"}},
        {"integers", with_dtype("'<i4'"), {"found '<i4'"}},
        {"objects", with_dtype("'|O'"), {"found '|O'"}},
        {"structured", with_dtype("[('a', '<f4'), ('b', '<f4')]"), {"expected dtype '<f4', found a structured one"}},
        {"subarray", with_dtype("('<f4', (2,))"), {"found a structured one"}},
        {"Fortran order", npy(npy_header("(2, 3)", "'<f4'", "True"), kSixFloats), {"C order", "fortran_order True"}},
        {"lower case false", npy(npy_header("(2, 3)", "'<f4'", "false"), kSixFloats), {"header is not a dict"}},
        {"Falsehood", npy(npy_header("(2, 3)", "'<f4'", "Falsehood"), kSixFloats), {"header is not a dict"}},
        {"negative", with_shape("(2, -3)"), {"negative"}},
        {"dimension 2^63", with_shape("(9223372036854775808,)"), {"too large"}},
        {"dimension of 30 digits", with_shape("(" + std::string(30, '9') + ",)"), {"too large"}},
        {"product overflows", with_shape("(4294967296, 4294967296)"), {"[4294967296, 4294967296]", "too large"}},
        {"bytes overflow", with_shape("(4611686018427387904,)"), {"too large"}},
        {"overflow hidden by zero", with_shape("(9223372036854775807, 9223372036854775807, 0)"), {"too large"}},
        {"huge", with_shape("(1152921504606846976,)"), {"expected 4611686018427387904 bytes", "found 24"}},
        {"many dimensions", with_shape("(" + repeated("1, ", 65) + ")"), {"more than 64 dimensions"}},
        {"number for a shape", with_shape("6"), {"header is not a dict"}},
        {"number in brackets", with_shape("(6)"), {"header is not a dict"}},
        {"list for a shape", with_shape("[2, 3]"), {"header is not a dict"}},
        {"two commas", with_shape("(2,, 3)"), {"header is not a dict"}},
        {"only a comma", with_shape("(,)"), {"header is not a dict"}},
        {"no comma", with_shape("(2 3)"), {"header is not a dict"}},
        {"leading zero", with_shape("(02, 3)"), {"header is not a dict"}},
        {"long integer", with_shape("(2L, 3L)"), {"header is not a dict"}},
        {"expression", with_shape("(1+1, 3)"), {"header is not a dict"}},
        {"open tuple", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", kSixFloats), {"it ends early"}},
        {"open string", npy("{'descr': '<f4", kSixFloats), {"header is not a dict"}},
        {"mixed quotes", npy("{'descr\": '<f4'}", kSixFloats), {"header is not a dict"}},
        {"escape", npy("{'de\\x73cr': '<f4'}", kSixFloats), {"header is not a dict"}},
        {"no header", npy("", kSixFloats), {"header is not a dict"}},
        {"empty dict", npy("{}", kSixFloats), {"lacks descr, fortran_order or shape"}},
        {"no shape", npy("{'descr': '<f4', 'fortran_order': False}", kSixFloats), {"lacks"}},
        {"no dtype", npy("{'fortran_order': False, 'shape': (2, 3)}", kSixFloats), {"lacks"}},
        {"no order", npy("{'descr': '<f4', 'shape': (2, 3)}", kSixFloats), {"lacks"}},
        {"unknown key", npy("{'x': 1}", kSixFloats), {"unknown key x"}},
        {"two dtypes", npy("{'descr': '<f4', 'descr': '<f4'}", kSixFloats), {"two keys descr"}},
        {"more after the dict", npy(npy_header("(2, 3)") + "x", kSixFloats), {"header is not a dict", "at 'x'"}},
        {"two lines in a dtype", with_dtype("'\\n'"), {"header is not a dict"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        Npy array{{7}, {}};
        expect_refused(parse(c.input, &array), kFileName, c.words);
        EXPECT_EQ(array.shape, std::vector<int64_t>{7});
    }
}

TEST(Npy, WritesWhatNumpyWrites) {
    const TemporaryFolder folder;
    const std::map<std::string, std::vector<int64_t>> shapes = {
        {"()", {}}, {"(6,)", {6}}, {"(2, 3)", {2, 3}}, {"(1, 3, 2, 1)", {1, 3, 2, 1}}, {"(0, 4)", {0, 4}}};
    for (const auto &[text, shape] : shapes) {
        SCOPED_TRACE(text);
        size_t count = 1;
        for (const int64_t n : shape) count *= static_cast<size_t>(n);
        const std::vector<float> data(count, 1.5F);
        expect_ok(write_npy(folder / "x.npy", shape, data));
        std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': " + text + ", }";
        header.resize(117, ' ');
        EXPECT_EQ(get(folder / "x.npy"), npy(header + "\n", raw(data)));
        Npy array;
        expect_ok(read_npy(folder / "x.npy", &array));
        EXPECT_EQ(array.shape, shape);
        EXPECT_EQ(array.data, data);
    }
}

TEST(Npy, KeepsEveryBit) {
    const TemporaryFolder folder;
    const std::vector<float> data = {-0.0F, std::numeric_limits<float>::denorm_min(), float(kInfinity), float(kNan)};
    expect_ok(write_npy(folder / "x.npy", std::vector<int64_t>{4}, data));
    Npy array;
    expect_ok(read_npy(folder / "x.npy", &array));
    EXPECT_EQ(raw(array.data), raw(data));
}

TEST(Npy, AlignsDataAfterALongHeader) {
    const TemporaryFolder folder;
    const std::vector<int64_t> shape(40, 1);
    expect_ok(write_npy(folder / "x.npy", shape, std::vector<float>{2}));
    EXPECT_EQ(get(folder / "x.npy").size() % 64, sizeof(float));
    Npy array;
    expect_ok(read_npy(folder / "x.npy", &array));
    EXPECT_EQ(array.shape, shape);
}

TEST(Npy, RefusesToWriteWhatDoesNotFit) {
    const TemporaryFolder folder;
    const std::vector<float> six(6);
    const std::vector<std::vector<int64_t>> shapes = {
        {5}, {2, 4}, {-2, -3}, {}, {6, 0}, {int64_t{1} << 62, 4}, std::vector<int64_t>(65, 1)};
    for (const auto &shape : shapes) {
        expect_refused(write_npy(folder / "x.npy", shape, six), folder / "x.npy", {"6 values do not make the shape"});
    }
    expect_refused(write_npy(folder / "missing/x.npy", std::vector<int64_t>{6}, six), folder / "missing/x.npy",
                   {"No such file or directory"});
    EXPECT_TRUE(folder.names().empty());
    Npy array;
    expect_refused(read_npy(folder / "x.npy", &array), folder / "x.npy", {"No such file or directory"});
}

// metadata.h

/// Keys in the order of the file, as JSON.
using Json = std::vector<std::pair<std::string, std::string>>;

const Json kMetadata = {
    {"network", R"("shufflenet_v2_x0_5")"},
    {"input", "[64, 48]"},
    {"resize", "72"},
    {"mean", "[0.5, 0, 1]"},
    {"std", "[0.25, 1, 0.000001]"},
    {"labels", R"(["cat", "Hündin\t🐕", ""])"},
    {"top1", "0.8206"},
    {"training", R"({"epochs":60})"},
};

std::string json(const Json &object) {
    std::string text = "{";
    for (const auto &[key, value] : object) {
        if (value.empty()) continue;
        text += (text == "{" ? "\"" : ",\n \"") + key + "\": " + value;
    }
    return text + "}";
}

/// kMetadata with another value for a key; without it if empty.
std::string metadata_with(const std::string &key, const std::string &value) {
    Json object = kMetadata;
    for (auto &item : object) {
        if (item.first == key) item.second = value;
    }
    return json(object);
}

TEST(Metadata, IsRead) {
    Metadata m;
    expect_ok(parse_metadata(json(kMetadata), kFileName, &m));
    EXPECT_EQ(m.network, "shufflenet_v2_x0_5");
    EXPECT_EQ(m.height, 64);
    EXPECT_EQ(m.width, 48);
    EXPECT_EQ(m.preprocess.resize, 72);
    EXPECT_EQ(m.preprocess.crop_height, 64);
    EXPECT_EQ(m.preprocess.crop_width, 48);
    EXPECT_EQ(m.preprocess.mean, (std::array<float, 3>{0.5F, 0, 1}));
    EXPECT_EQ(m.preprocess.std, (std::array<float, 3>{0.25F, 1, 1e-6F}));
    EXPECT_EQ(m.labels, (std::vector<std::string>{"cat", "Hündin\t🐕", ""}));
}

TEST(Metadata, ByteOrderMarkAndLineEndsDoNotMatter) {
    const TemporaryFolder folder;
    std::string text = "\xEF\xBB\xBF" + json(kMetadata);
    for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 2)) text.insert(at, "\r");
    put(folder / "m.json", text);
    Metadata m;
    expect_ok(read_metadata(folder / "m.json", &m));
    EXPECT_EQ(m.labels.size(), 3U);
}

TEST(Metadata, LabelsMayBeLeftOut) {
    Metadata m;
    m.labels = {"old"};
    expect_ok(parse_metadata(metadata_with("labels", ""), kFileName, &m));
    EXPECT_TRUE(m.labels.empty());
}

TEST(Metadata, RefusesWrongValues) {
    const std::string many = "[" + repeated("\"\",", kMaxClasses) + "\"\"]";
    const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
        {"network", "", "no key network"},
        {"network", "5", "expected a string"},
        {"input", "", "no key input"},
        {"input", "64", "expected [height, width]"},
        {"input", "[64]", "expected [height, width]"},
        {"input", "[3, 64, 64]", "expected [height, width]"},
        {"input", R"(["64", 64])", "found \"64\""},
        {"input", "[64.0, 64]", "found 64.0"},
        {"input", "[31, 64]", "from 32 to 1024, found 31"},
        {"input", "[64, 1025]", "from 32 to 1024, found 1025"},
        {"input", "[-64, 64]", "found -64"},
        {"resize", "", "no key resize"},
        {"resize", "0", "from 1 to 4096, found 0"},
        {"resize", "4097", "found 4097"},
        {"resize", "18446744073709551615", "found 18446744073709551615"},
        {"resize", "null", "found null"},
        {"mean", "", "no key mean"},
        {"mean", "0.5", "three numbers"},
        {"mean", "[0.5, 0.5]", "three numbers"},
        {"mean", "[0.5, 0.5, \"x\"]", "found [0.5,0.5,\"x\"]"},
        {"mean", "[0.5, 0.5, 1e300]", "found [0.5,0.5,1e+300]"},
        {"mean", "[0.5, 0.5, -0.1]", "from 0 to 1, found [0.5,0.5,-0.1]"},
        {"mean", "[0.5, 0.5, 1.1]", "from 0 to 1, found [0.5,0.5,1.1]"},
        {"mean", "[123.675, 116.28, 103.53]", "divide them by 255: 0.485 0.456 0.406"},
        {"std", "[58.395, 57.12, 57.375]",
         "from 1e-06 to 1, found [58.395,57.12,57.375]; if they are of values from 0 to 255, divide them by 255: 0.229 "
         "0.224 0.225"},
        {"std", "", "no key std"},
        {"std", "[1, 1, 0]", "found [1,1,0]"},
        {"std", "[1, 1, -1]", "found [1,1,-1]"},
        {"std", "[1, 1, 1e-40]", "found [1,1,1e-40]"},
        {"std", "[1, 1, 1, 1]", "three numbers"},
        {"labels", R"("cat")", "list of strings"},
        {"labels", R"({"0": "cat"})", "list of strings"},
        {"labels", R"(["cat", 7])", "label 1 is not a string"},
        {"labels", R"(["a\u0000b"])", "label 0 has a control character"},
        {"labels", R"(["a\nb"])", "label 0 has a control character"},
        {"labels", R"(["\u001b[31mred"])", "label 0 has a control character"},
        {"labels", "[\"" + std::string(1025, 'x') + "\"]", "label 0 is longer than 1024 bytes"},
        {"labels", many, "at most 100000"},
    };
    for (const auto &[key, value, words] : cases) {
        SCOPED_TRACE(key + " " + value.substr(0, 60));
        Metadata m;
        m.network = "old";
        expect_refused(parse_metadata(metadata_with(key, value), kFileName, &m), kFileName, {key, words});
        EXPECT_EQ(m.network, "old");
    }
}

TEST(Metadata, RefusesWhatIsNotAnObject) {
    const std::vector<Refused> cases = {
        {"empty", "", {"metadata is not JSON"}},
        {"list", "[]", {"metadata is not a JSON object", "network, input, resize, mean, std", "found an array"}},
        {"annotations",
         R"({"images":[],"annotations":[],"categories":[]})",
         {"not metadata of a model", "network, input, resize, mean, std", "found annotations, categories, images"}},
        {"package",
         R"({"name":"pets","version":"1.0.0","input":"x"})",
         {"not metadata of a model", "found input, name, version"}},
        {"nothing", "{}", {"not metadata of a model", "found none"}},
        {"UTF-16", std::string("\xFF\xFE{\0}\0", 6), {"found text in UTF-16: save it as UTF-8"}},
        {"number", "5", {"metadata is not a JSON object"}},
        {"cut", json(kMetadata).substr(0, 100), {"metadata is not JSON"}},
        {"deep", repeated("[", 1'000'000), {"metadata is nested"}},
        {"a million values", "[" + repeated("0,", 1'000'000) + "0]", {"metadata has more than 1000000 values"}},
        {"duplicate", R"({"resize":1,"resize":1})", {"two keys resize"}},
        {"duplicate in a value", R"({"a":{"b":1,"b":2}})", {"two keys b"}},
        {"NUL", json(kMetadata) + std::string(1, '\0') + "more", {"NUL"}},
        {"not UTF-8", "{\"a\":\"\xFF\"}", {"metadata is not JSON"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        Metadata m;
        expect_refused(parse_metadata(c.input, kFileName, &m), kFileName, c.words);
    }
}

TEST(Metadata, DefaultsFollowTorchvision) {
    const std::string x0_5 = "shufflenet_v2_x0_5", x2_0 = "shufflenet_v2_x2_0";
    const std::vector<std::tuple<std::string, Size, int>> cases = {
        {x0_5, {224, 224}, 256}, {x2_0, {224, 224}, 232}, {x0_5, {64, 64}, 73}, {x2_0, {64, 64}, 66},
        {x0_5, {448, 112}, 128}, {x0_5, {112, 448}, 128}, {x2_0, {32, 32}, 33}, {x0_5, {1024, 1024}, 1170},
    };
    for (const auto &[network, input, resize] : cases) {
        const int published = networks::find_published(network)->resize;
        const Metadata m = default_metadata(network, input.height, input.width, published);
        SCOPED_TRACE(m.network + " " + std::to_string(input.height));
        EXPECT_EQ(m.network, network);
        EXPECT_EQ((Size{m.height, m.width}), input);
        EXPECT_EQ((Size{m.preprocess.crop_height, m.preprocess.crop_width}), input);
        EXPECT_EQ(m.preprocess.resize, resize);
        EXPECT_EQ(m.preprocess.mean, (std::array<float, 3>{0.485F, 0.456F, 0.406F}));
        EXPECT_EQ(m.preprocess.std, (std::array<float, 3>{0.229F, 0.224F, 0.225F}));
        EXPECT_TRUE(m.labels.empty());
    }
}

TEST(Labels, AreReadLineByLine) {
    const std::vector<std::string> expected = {"tabby, tabby cat", "", "Hündin 🐕", "n01\tfish"};
    const std::string lines = "tabby, tabby cat\n\nHündin 🐕\nn01\tfish",
                      crlf = "tabby, tabby cat\r\n\r\nHündin 🐕\r\nn01\tfish";
    const TemporaryFolder folder;
    for (const std::string &text :
         {lines, lines + "\n", lines + "\n\n\n", "\xEF\xBB\xBF" + lines, crlf, crlf + "\r\n", crlf + "\r\n\r\n"}) {
        put(folder / "labels.txt", text);
        std::vector<std::string> labels;
        expect_ok(read_labels(folder / "labels.txt", &labels));
        EXPECT_EQ(labels, expected);
    }
}

TEST(Labels, RefusesOtherText) {
    const std::string longest(1024, 'x'), many = repeated("x\n", kMaxClasses);
    std::vector<std::string> labels;
    expect_ok(parse_labels("a\n" + longest, kFileName, &labels));
    expect_ok(parse_labels(many, kFileName, &labels));
    EXPECT_EQ(labels.size(), size_t{kMaxClasses});

    const std::vector<Refused> cases = {
        {"empty", "", {"found none"}},
        {"only a byte order mark", "\xEF\xBB\xBF", {"found none"}},
        {"only empty lines", "\n\r\n\n", {"found none"}},
        {"NUL", std::string("a\nb\0c\n", 6), {"line 2 has a control character"}},
        {"old Macintosh", "a\rb\n", {"line 1 has a control character"}},
        {"escape sequence", "a\n\x1B[31mb\n", {"line 2 has a control character"}},
        {"delete", "a\x7F", {"line 1 has a control character"}},
        {"Latin-1", "a\nH\xFCndin\n", {"line 2 is not UTF-8"}},
        {"UTF-16",
         "\xFF\xFE"
         "a",
         {"found text in UTF-16: save it as UTF-8"}},
        {"UTF-16 without a mark", std::string("c\0a\0t\0\n\0", 8), {"found text in UTF-16"}},
        {"JSON", R"({"0": ["n01440764", "tench"]})", {R"(found JSON, '{"0": ["n01440764")"}},
        {"web page", "<!doctype html>\n<title>", {"found a web page"}},
        {"overlong, 2 bytes", "\xC1\x81", {"line 1 is not UTF-8"}},
        {"overlong, 3 bytes", "\xE0\x9F\xBF", {"line 1 is not UTF-8"}},
        {"overlong, 4 bytes", "\xF0\x8F\xBF\xBF", {"line 1 is not UTF-8"}},
        {"surrogate", "\xED\xA0\x80", {"line 1 is not UTF-8"}},
        {"beyond Unicode", "\xF4\x90\x80\x80", {"line 1 is not UTF-8"}},
        {"lone continuation", "\x80", {"line 1 is not UTF-8"}},
        {"cut, 2 bytes", "\xC3\nb", {"line 1 is not UTF-8"}},
        {"cut, 3 bytes", "\xE2\x82", {"line 1 is not UTF-8"}},
        {"cut, 4 bytes", "\xF0\x9F\x90", {"line 1 is not UTF-8"}},
        {"long line", "a\n" + longest + "x", {"line 2 is longer than 1024 bytes"}},
        {"many lines", many + "x", {"at most 100000 lines"}},
    };
    for (const Refused &c : cases) {
        SCOPED_TRACE(c.what);
        labels = {"old"};
        expect_refused(parse_labels(c.input, kFileName, &labels), kFileName, c.words);
        EXPECT_EQ(labels, std::vector<std::string>{"old"});
    }
    expect_refused(read_labels("missing/labels.txt", &labels), "missing/labels.txt", {"No such file or directory"});
}

TEST(Labels, UnicodeLimitsAreAccepted) {
    for (const std::string text : {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                   "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
        std::vector<std::string> labels;
        expect_ok(parse_labels(text, kFileName, &labels));
        EXPECT_EQ(labels, std::vector<std::string>{text});
    }
}

// All of them against damage

/// A reader as a function of bytes, and a file that it accepts.
struct Reader {
    std::string name, good;
    Status (*read)(const std::string &);
};

Status read_small_checkpoint(const std::string &bytes) {
    Safetensors file;
    if (Status status = Safetensors::parse(as_bytes(bytes), kFileName, &file); !status.ok()) return status;
    Checkpoint checkpoint;
    return read_checkpoint(file, kFileName, small_weights().needed(), &checkpoint);
}

std::vector<Reader> all_readers() {
    const auto metadata = [](const std::string &text) {
        Metadata m;
        return parse_metadata(text, kFileName, &m);
    };
    const auto array = [](const std::string &bytes) {
        Npy a;
        return parse(bytes, &a);
    };
    return {{"safetensors", as_string(to_file(small_state_dict())), read_small_checkpoint},
            {"npy", npy(npy_header("(2, 3)"), kSixFloats), array},
            {"metadata", json(kMetadata), metadata}};
}

TEST(Damage, EveryTruncationIsRefused) {
    for (const Reader &reader : all_readers()) {
        SCOPED_TRACE(reader.name);
        expect_ok(reader.read(reader.good));
        for (size_t size = 0; size < reader.good.size(); ++size) {
            const Status status = reader.read(reader.good.substr(0, size));
            ASSERT_FALSE(status.ok()) << size;
            ASSERT_EQ(status.code(), Code::kBadInput) << size;
            ASSERT_TRUE(one_line(status.message())) << size;
        }
    }
}

TEST(Damage, NoByteCanDoHarm) {
    for (const Reader &reader : all_readers()) {
        SCOPED_TRACE(reader.name);
        for (size_t i = 0; i < reader.good.size(); ++i) {
            std::string damaged = reader.good;
            damaged[i] = static_cast<char>(damaged[i] ^ 1 << i % 8);
            const Status status = reader.read(damaged);
            ASSERT_TRUE(status.ok() || status.code() == Code::kBadInput) << i;
            ASSERT_TRUE(one_line(status.message())) << i;
        }
    }
}

TEST(Tuning, NumbersAreThoseOfTheKernelAndTheBatch) {
    const std::string path = testing::TempDir() + "tuned.json";
    std::ofstream(path) << R"({"kernels": {"stem": {"tile_pixels": 7, "strip_rows": 2}},
                               "batches": {"64": {"stem": {"tile_pixels": 3}},
                                           "8": {"stem": {"tile_pixels": 5}, "fc": {"tile_pixels": 6}}}})";
    struct Row {
        const char *kernel;
        int batch, tile_pixels, strip_rows;
    };
    const Row rows[] = {{"stem", 1, 7, 2},  {"stem", 7, 7, 2}, {"stem", 8, 5, 0},  {"stem", 63, 5, 0},
                        {"stem", 64, 3, 0}, {"fc", 1, 0, 0},   {"fc", 1000, 6, 0}, {"conv5", 8, 0, 0}};
    for (const Row &row : rows) {
        const schedules::Tuning tuning = schedules::read_tuning(path, row.kernel, row.batch);
        EXPECT_EQ(tuning.tile_pixels, row.tile_pixels) << row.kernel << " " << row.batch;
        EXPECT_EQ(tuning.strip_rows, row.strip_rows) << row.kernel << " " << row.batch;
    }
    EXPECT_EQ(schedules::read_tuning("", "stem").tile_pixels, 0);
    fs::remove(path);
}

TEST(Tuning, NamesWhatIsWrong) {
    const std::string path = testing::TempDir() + "tuned.json";
    const std::pair<const char *, const char *> rows[] = {
        {"", "cannot open the tuned numbers"},
        {"[]", "expected a JSON object with an object \"kernels\""},
        {R"({"kernels": {"stem": {"tiles": 1}}})", R"(stem: unknown key "tiles")"},
        {R"({"kernels": {"stem": {"order": -1}}})", "stem.order: expected an integer from 0 to 1048576, found -1"},
        {R"({"kernels": {}, "batches": 8})", "batches: expected an object, found 8"},
        {R"({"kernels": {}, "batches": {"1": {}}})",
         R"(batches: expected kernels by a number of images from 2 to 4096, found "1": {})"},
        {R"({"kernels": {}, "batches": {"08": {}}})",
         R"(batches: expected kernels by a number of images from 2 to 4096, found "08": {})"},
        {R"({"kernels": {}, "batches": {"8": []}})",
         R"(batches: expected kernels by a number of images from 2 to 4096, found "8": [])"},
        {R"({"kernels": {}, "batches": {"8": {"stem": {"order": 0.5}}}})",
         "stem.order: expected an integer from 0 to 1048576, found 0.5"},
    };
    for (const auto &[text, message] : rows) {
        if (*text != '\0') std::ofstream(path) << text;
        std::string found;
        try {
            schedules::read_tuning(path, "stem", 8);
        } catch (const std::runtime_error &error) {
            found = error.what();
        }
        EXPECT_EQ(found, path + ": " + message);
    }
    fs::remove(path);
}

}  // namespace
}  // namespace shufflenet
