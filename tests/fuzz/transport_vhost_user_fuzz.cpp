// SPDX-License-Identifier: BSL-1.0
// A hostile vhost-user front end: messages with any number, flags, size and count of descriptors,
// memory regions that overlap or wrap around, and rings with any bytes. The back end may end the
// connection, and leaves no descriptor open.
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace phasebit;
namespace vhost = phasebit::transport::vhost_user;

namespace {

void must(bool condition) {
  if (!condition) std::abort();
}

constexpr std::size_t memory_bytes = 0x10000;
constexpr std::uint64_t memory_base = 0x4000'0000;

using media_type = block::planned_media<block::memory_media, block::random_media_plan>;
using device_type = vhost::blk_device<media_type>;

// The files that the front end passes to the back end, made once.
struct shared_files {
  int memory = ::memfd_create("guest", MFD_CLOEXEC);
  int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::byte* bytes = nullptr;

  shared_files() {
    must(memory >= 0 && event >= 0);
    must(::ftruncate(memory, memory_bytes) == 0);
    void* const at = ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    must(at != MAP_FAILED);
    bytes = static_cast<std::byte*>(at);
  }
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (int fd = 0; fd != 256; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
  return count;
}

// A word of a payload: small, an address or a size of the shared memory, a limit, or any bits.
std::uint64_t word(std::uint8_t kind, std::uint64_t bits) {
  switch (kind % 7) {
    case 0:
      return bits % 4;
    case 1:
      return memory_base + bits % memory_bytes / 64 * 64;
    case 2:
      return memory_bytes >> (bits % 5);
    case 3:
      return std::uint64_t{1} << (bits % 64);
    case 4:
      return ~std::uint64_t{0} - bits % 64;
    case 5:
      return bits;
    default:
      return std::uint64_t{1} << 32 | bits;
  }
}

void serve(std::span<const std::uint8_t> input, const shared_files& files) {
  std::vector<std::byte> disk(1 << 14);
  block::memory_media blocks{disk};
  std::array<block::planned_operation, 16> operations{};
  std::vector<media_type> media;
  for (std::size_t i = 0; i != 2; ++i) {
    media.emplace_back(blocks, std::span{operations}.subspan(8 * i, 8),
                       block::random_media_plan{.longest = 2});
  }
  device_type device{media, virtio::blk::device_options{}, 4};
  int ends[2];
  must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  vhost::back_end<device_type> back{device, posix::unique_fd{ends[0]}};
  device.set_log(&back.log());
  vhost::message_channel front{posix::unique_fd{ends[1]}};
  vhost::message reply;

  const auto take = [&input]() -> std::uint8_t {
    if (input.empty()) return 0;
    const std::uint8_t value = input.front();
    input = input.subspan(1);
    return value;
  };
  while (!input.empty() && back.state() != vhost::connection_state::failed &&
         back.state() != vhost::connection_state::closed) {
    // 0: number. 1: flags. 2: descriptors and whether the size is right. 3: words, each a kind and
    // four bytes.
    std::uint8_t number = take();
    const std::uint8_t flags = take();
    const std::uint8_t shape = take();
    if (number >= 0xc0) {  // bytes of the guest's memory
      const std::size_t at = std::size_t{flags} * 256 + shape;
      const std::size_t n =
          std::min<std::size_t>({number - 0xbfU, memory_bytes - at, input.size()});
      if (n != 0) std::memcpy(files.bytes + at, input.data(), n);
      input = input.subspan(n);
      static_cast<void>(::eventfd_write(files.event, 1));
    } else {
      number = static_cast<std::uint8_t>(number % 44);
      std::array<std::uint64_t, 40> words{};
      const std::size_t count = take() % (words.size() + 1);
      for (std::size_t i = 0; i != count; ++i) {
        const std::uint8_t kind = take();
        std::uint64_t bits = 0;
        for (int b = 0; b != 4; ++b) bits = bits << 8 | take();
        words[i] = word(kind, bits);
      }
      std::array<int, 16> fds{};
      const std::size_t fd_count = shape % 17;
      for (std::size_t i = 0; i != fd_count; ++i) {
        fds[i] = ((flags >> (i % 4)) & 0x10) != 0 ? files.event : files.memory;
      }
      std::span<const std::byte> payload = std::as_bytes(std::span{words}.first(count));
      if ((shape & 0x80) != 0 && !payload.empty()) payload = payload.first(payload.size() - 4);
      static_cast<void>(front.send(number, flags & vhost::flag_need_reply, payload,
                                   std::span<const int>{fds}.first(fd_count)));
    }
    for (int i = 0; i != 3; ++i) {
      back.poll();
      while (front) {
        const auto got = front.receive(reply);
        if (!got || *got != vhost::receive_status::complete) break;
        reply.fds.clear();
      }
    }
  }
  front.close();
  for (int i = 0; i != 64; ++i) back.poll();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const shared_files files;
  std::memset(files.bytes, 0, memory_bytes);
  const std::size_t before = open_descriptors();
  serve({data, bytes}, files);
  must(open_descriptors() == before);
  return 0;
}
