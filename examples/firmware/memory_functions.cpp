// SPDX-License-Identifier: BSL-1.0
// The four functions that the library and compilers need, byte by byte: with the MMU off, unaligned words
// fault.
#include <cstddef>

extern "C" {

void* memcpy(void* to, const void* from, std::size_t count) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i != count; ++i) out[i] = in[i];
  return to;
}
void* memmove(void* to, const void* from, std::size_t count) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  if (out <= in) {
    for (std::size_t i = 0; i != count; ++i) out[i] = in[i];
  } else {
    for (std::size_t i = count; i != 0; --i) out[i - 1] = in[i - 1];
  }
  return to;
}
void* memset(void* to, int value, std::size_t count) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  for (std::size_t i = 0; i != count; ++i) out[i] = static_cast<unsigned char>(value);
  return to;
}
int memcmp(const void* a, const void* b, std::size_t count) noexcept {
  const auto* x = static_cast<const unsigned char*>(a);
  const auto* y = static_cast<const unsigned char*>(b);
  for (std::size_t i = 0; i != count; ++i) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}
}
