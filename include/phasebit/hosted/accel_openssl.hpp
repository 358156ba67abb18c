// SPDX-License-Identifier: BSL-1.0
// OpenSSL's AES-XTS for software engines, which takes constant time on every processor OpenSSL has such
// code for. Needs libcrypto (Debian: libssl-dev) and -lcrypto; the header is empty where <openssl/evp.h>
// is not installed.
#pragma once

#if __has_include(<openssl/evp.h>)

#  include <phasebit/accel/detail/stream.hpp>
#  include <phasebit/accel/operation.hpp>
#  include <phasebit/core/result.hpp>

#  include <array>
#  include <cstddef>
#  include <cstdint>
#  include <span>
#  include <utility>

#  include <openssl/evp.h>

namespace phasebit::hosted {

// One key of AES-XTS, both directions. Owns OpenSSL's contexts; move-only. One thread.
class openssl_xts_key {
 public:
  // 32 or 64 bytes: data key, then tweak key. Errors: invalid_argument (size, or equal halves, which
  // OpenSSL refuses), exhausted (no memory).
  [[nodiscard]] static result<openssl_xts_key> make(std::span<const std::uint8_t> key) noexcept {
    if (key.size() != 32 && key.size() != 64) {
      return failure(errc::invalid_argument, "a key of AES-XTS has 32 or 64 bytes", key.size());
    }
    openssl_xts_key k;
    const ::EVP_CIPHER* cipher = key.size() == 32 ? ::EVP_aes_128_xts() : ::EVP_aes_256_xts();
    for (const int encrypt : {0, 1}) {
      ::EVP_CIPHER_CTX*& c = k.contexts_[static_cast<std::size_t>(encrypt)];
      c = ::EVP_CIPHER_CTX_new();
      if (c == nullptr) return failure(errc::exhausted, "OpenSSL has no memory for a context");
      if (::EVP_CipherInit_ex(c, cipher, nullptr, key.data(), nullptr, encrypt) != 1) {
        return failure(errc::invalid_argument, "OpenSSL refuses the key: are its halves equal?");
      }
    }
    return k;
  }
  openssl_xts_key(openssl_xts_key&& other) noexcept
      : contexts_(std::exchange(other.contexts_, {})) {}
  openssl_xts_key& operator=(openssl_xts_key&& other) noexcept {
    std::swap(contexts_, other.contexts_);
    return *this;
  }
  ~openssl_xts_key() {
    for (::EVP_CIPHER_CTX* c : contexts_) ::EVP_CIPHER_CTX_free(c);
  }

  // One data unit, in place or not.
  void unit(bool encrypt, std::uint64_t number, std::byte* to, const std::byte* from,
            std::uint32_t bytes) const noexcept {
    std::array<unsigned char, 16> tweak{};
    for (unsigned k = 0; k != 8; ++k) tweak[k] = static_cast<unsigned char>(number >> (8 * k));
    ::EVP_CIPHER_CTX* c = contexts_[encrypt ? 1 : 0];
    int written = 0;
    ::EVP_CipherInit_ex(c, nullptr, nullptr, nullptr, tweak.data(), -1);
    ::EVP_CipherUpdate(c, reinterpret_cast<unsigned char*>(to), &written,
                       reinterpret_cast<const unsigned char*>(from), static_cast<int>(bytes));
  }

 private:
  openssl_xts_key() noexcept = default;
  std::array<::EVP_CIPHER_CTX*, 2> contexts_{};
};

// The Cipher of a software_engine. Data units up to Largest bytes; the keys outlive it. Data units
// that span segments go through a buffer of the object. One thread.
template <std::uint32_t Largest = 65536>
class openssl_cipher {
 public:
  explicit openssl_cipher(std::span<const openssl_xts_key> keys) noexcept : keys_(keys) {}

  [[nodiscard]] bool has(std::uint16_t key) const noexcept { return key < keys_.size(); }
  template <bool Decrypt>
  void run(const accel::cipher& c, accel::detail::stream& to, accel::detail::stream& from,
           std::uint64_t units) noexcept {
    PHASEBIT_EXPECTS(c.unit_bytes <= Largest, "a data unit longer than the cipher's buffer");
    for (std::uint64_t k = 0; k != units; ++k) {
      std::span<std::byte> in = from.whole(c.unit_bytes);
      if (in.empty()) {
        from.read(held_.data(), c.unit_bytes);
        in = std::span{held_}.first(c.unit_bytes);
      }
      const std::span<std::byte> out = to.whole(c.unit_bytes);
      if (!out.empty()) {
        keys_[c.key].unit(!Decrypt, c.first_unit + k, out.data(), in.data(), c.unit_bytes);
        continue;
      }
      keys_[c.key].unit(!Decrypt, c.first_unit + k, held_.data(), in.data(), c.unit_bytes);
      to.write(held_.data(), c.unit_bytes);
    }
  }

 private:
  std::span<const openssl_xts_key> keys_;
  std::array<std::byte, Largest> held_;
};

}  // namespace phasebit::hosted

#endif
