// SPDX-License-Identifier: BSL-1.0
// The library's values in {fmt}: fmt::print("{}: {}\n", function, result.error()).
// Texts take the specification of a string ({:>20}), numbers that of an integer ({:#018x}).
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/nvme/spec/status.hpp>
#include <phasebit/nvme/spec/status_text.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace phasebit::hosted::detail {

// A text that is printed into a buffer of its own first, so that width and alignment hold for all
// of it.
template <class Printed>
struct text_formatter : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(const Printed& what, Context& context) const {
    std::array<char, 16> buffer{};
    const std::string_view text = what.print(buffer);
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};

}  // namespace phasebit::hosted::detail

// "subject: what (value 0x1234, index 3)"; an errno is followed by its text.
template <>
struct fmt::formatter<phasebit::error> : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(const phasebit::error& e, Context& context) const {
    fmt::memory_buffer out;
    std::array<char, 512> buffer{};
    const std::string_view text = e.message(buffer);
    out.append(text.data(), text.data() + text.size());
    if (e.has_value && e.value_is_errno) {
      fmt::format_to(fmt::appender(out), ": {}",
                     std::generic_category().message(static_cast<int>(e.value)));
    }
    return fmt::formatter<fmt::string_view>::format({out.data(), out.size()}, context);
  }
};

// The code's name: "timed_out".
template <>
struct fmt::formatter<phasebit::errc> : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(phasebit::errc code, Context& context) const {
    const std::string_view text = phasebit::name(code);
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};

// "0x1000", whatever space it is of, where nothing else is requested.
template <class Space>
struct fmt::formatter<phasebit::address<Space>> : fmt::formatter<std::uint64_t> {
  template <class ParseContext>
  constexpr auto parse(ParseContext& context) {
    plain_ = context.begin() == context.end() || *context.begin() == '}';
    return fmt::formatter<std::uint64_t>::parse(context);
  }
  template <class Context>
  auto format(phasebit::address<Space> a, Context& context) const {
    if (plain_) return fmt::format_to(context.out(), "{:#x}", a.value());
    return fmt::formatter<std::uint64_t>::format(a.value(), context);
  }

 private:
  bool plain_ = true;
};

// As the integer or enum it stands for.
template <class T, std::endian Order>
struct fmt::formatter<phasebit::ordered<T, Order>> : fmt::formatter<T> {
  template <class Context>
  auto format(phasebit::ordered<T, Order> value, Context& context) const {
    return fmt::formatter<T>::format(value.get(), context);
  }
};

// "01:00.0" and "0000:01:00.0".
template <>
struct fmt::formatter<phasebit::pcie::requester_id>
    : phasebit::hosted::detail::text_formatter<phasebit::pcie::requester_id> {};
template <>
struct fmt::formatter<phasebit::pcie::function_address>
    : phasebit::hosted::detail::text_formatter<phasebit::pcie::function_address> {};

// "0/80: the LBA range ends beyond the namespace, do not retry": type and code as the tables of the
// specification print them, then the sentence.
template <>
struct fmt::formatter<phasebit::nvme::status> : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(phasebit::nvme::status s, Context& context) const {
    fmt::memory_buffer out;
    const std::string_view sentence = phasebit::nvme::text(s.code());
    fmt::format_to(fmt::appender(out), "{}/{:02X}: {}{}", static_cast<unsigned>(s.sct()), s.sc(),
                   fmt::string_view{sentence.data(), sentence.size()},
                   s.dnr() ? ", do not retry" : "");
    return fmt::formatter<fmt::string_view>::format({out.data(), out.size()}, context);
  }
};
template <>
struct fmt::formatter<phasebit::nvme::status_code> : fmt::formatter<phasebit::nvme::status> {
  template <class Context>
  auto format(phasebit::nvme::status_code code, Context& context) const {
    return fmt::formatter<phasebit::nvme::status>::format(phasebit::nvme::status{code}, context);
  }
};
