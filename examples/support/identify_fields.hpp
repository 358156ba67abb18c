// SPDX-License-Identifier: BSL-1.0
// The fields of Identify Controller and Identify Namespace with the order, names and bases of `nvme
// id-ctrl` and `nvme id-ns`, and the meaning of their bits.
#pragma once

#include "support/units.hpp"

#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/identify_namespace.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <fmt/format.h>

namespace example {

// Digits in which the text shows a number; JSON shows all in decimal.
enum class base { decimal, hexadecimal };

struct identify_field {
  std::string name;
  std::variant<std::uint64_t, std::string> value;
  base shown = base::decimal;
  std::vector<std::string> meaning;  // lines for people

  [[nodiscard]] std::string text() const {
    if (const auto* s = std::get_if<std::string>(&value)) return *s;
    const auto number = std::get<std::uint64_t>(value);
    return shown == base::hexadecimal ? fmt::format("{:#x}", number) : fmt::format("{}", number);
  }
};

// The meaning of a set bit.
struct bit_name {
  unsigned bit;
  const char* name;
};

[[nodiscard]] inline std::vector<std::string> bits_text(std::uint64_t value,
                                                        std::span<const bit_name> names) {
  std::vector<std::string> lines;
  for (const bit_name& n : names) {
    lines.push_back(
        fmt::format("[{}] {}: {}", n.bit, n.name, (value >> n.bit & 1) != 0 ? "yes" : "no"));
  }
  return lines;
}

// Text from a device is not assumed to be printable.
[[nodiscard]] inline std::string printable(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return out;
}

[[nodiscard]] inline std::string hex_digits(std::span<const std::uint8_t> bytes) {
  std::string out;
  for (const std::uint8_t b : bytes) out += fmt::format("{:02x}", b);
  return out;
}

[[nodiscard]] inline std::string kelvin_text(std::uint16_t kelvin) {
  return kelvin == 0 ? "not reported" : fmt::format("{} degrees Celsius", kelvin - 273);
}

[[nodiscard]] inline std::vector<identify_field> controller_fields(
    const phasebit::nvme::identify_controller& c, std::uint32_t min_page_bytes) {
  using phasebit::nvme::text_of;
  constexpr bit_name cmic[] = {{0, "more than one port"},
                               {1, "more than one controller"},
                               {2, "is a virtual function"},
                               {3, "asymmetric namespace access"}};
  constexpr bit_name oacs[] = {{0, "security send and receive"},
                               {1, "format"},
                               {2, "firmware commit and download"},
                               {3, "namespace management"},
                               {4, "device self-test"},
                               {5, "directives"},
                               {6, "NVMe-MI"},
                               {7, "virtualization management"},
                               {8, "doorbell buffer config"},
                               {9, "get LBA status"},
                               {10, "lockdown"}};
  constexpr bit_name oncs[] = {{0, "compare"},
                               {1, "write uncorrectable"},
                               {2, "dataset management"},
                               {3, "write zeroes"},
                               {4, "save and select"},
                               {5, "reservations"},
                               {6, "timestamp"},
                               {7, "verify"},
                               {8, "copy"}};
  constexpr bit_name lpa[] = {{0, "SMART log by namespace"},
                              {1, "commands supported and effects log"},
                              {2, "extended data for get log page"},
                              {3, "telemetry logs"},
                              {4, "persistent event log"}};
  constexpr bit_name vwc[] = {{0, "volatile write cache"}};
  constexpr bit_name fna[] = {{0, "format applies to all namespaces"},
                              {1, "secure erase applies to all namespaces"},
                              {2, "cryptographic erase"}};
  const std::uint64_t mdts = c.max_transfer_bytes(min_page_bytes);
  const std::uint32_t ver = c.ver;
  using enum base;

  std::vector<identify_field> f;
  const auto add = [&f](std::string name, std::uint64_t value, base shown = decimal,
                        std::vector<std::string> meaning = {}) {
    f.push_back({std::move(name), value, shown, std::move(meaning)});
  };
  const auto add_text = [&f](std::string name, std::string value) {
    f.push_back({std::move(name), std::move(value), decimal, {}});
  };
  add("vid", c.vid, hexadecimal);
  add("ssvid", c.ssvid, hexadecimal);
  add_text("sn", printable(text_of(c.sn)));
  add_text("mn", printable(text_of(c.mn)));
  add_text("fr", printable(text_of(c.fr)));
  add("rab", c.rab, decimal,
      {fmt::format("{} commands at once", std::uint64_t{1} << (c.rab & 63))});
  const std::uint8_t ieee[] = {c.ieee[2], c.ieee[1], c.ieee[0]};
  add_text("ieee", hex_digits(ieee));
  add("cmic", c.cmic, hexadecimal, bits_text(c.cmic, cmic));
  add("mdts", c.mdts, decimal,
      {mdts == 0 ? std::string{"no limit"} : size_text(mdts) + " in one command"});
  add("cntlid", c.cntlid, hexadecimal);
  add("ver", ver, hexadecimal,
      {fmt::format("NVMe {}.{}.{}", ver >> 16, ver >> 8 & 0xff, ver & 0xff)});
  add("rtd3r", c.rtd3r, hexadecimal);
  add("rtd3e", c.rtd3e, hexadecimal);
  add("oaes", c.oaes, hexadecimal);
  add("ctratt", c.ctratt, hexadecimal);
  add("rrls", c.rrls);
  add("cntrltype", static_cast<std::uint8_t>(c.cntrltype), decimal,
      {c.cntrltype == phasebit::nvme::controller_type::io ? "I/O controller"
                                                          : "not reported, or other"});
  add_text("fguid", hex_digits(c.fguid));
  add("crdt1", c.crdt1);
  add("crdt2", c.crdt2);
  add("crdt3", c.crdt3);
  add("nvmsr", c.nvmsr);
  add("vwci", c.vwci);
  add("mec", c.mec);
  add("oacs", c.oacs, hexadecimal, bits_text(c.oacs, oacs));
  add("acl", c.acl, decimal, {fmt::format("{} abort commands at a time", c.acl + 1)});
  add("aerl", c.aerl, decimal, {fmt::format("{} event requests at a time", c.aerl + 1)});
  add("frmw", c.frmw, hexadecimal);
  add("lpa", c.lpa, hexadecimal, bits_text(c.lpa, lpa));
  add("elpe", c.elpe, decimal, {fmt::format("{} entries in the error log", c.elpe + 1)});
  add("npss", c.npss, decimal, {fmt::format("{} power states", c.npss + 1)});
  add("avscc", c.avscc, hexadecimal);
  add("apsta", c.apsta, hexadecimal);
  add("wctemp", c.wctemp, decimal, {kelvin_text(c.wctemp)});
  add("cctemp", c.cctemp, decimal, {kelvin_text(c.cctemp)});
  add("mtfa", c.mtfa);
  add("hmpre", c.hmpre);
  add("hmmin", c.hmmin);
  add("tnvmcap", c.tnvmcap.saturated(), decimal, {size_text(c.tnvmcap.saturated())});
  add("unvmcap", c.unvmcap.saturated(), decimal, {size_text(c.unvmcap.saturated())});
  add("rpmbs", c.rpmbs, hexadecimal);
  add("edstt", c.edstt);
  add("dsto", c.dsto);
  add("fwug", c.fwug);
  add("kas", c.kas, decimal,
      {c.kas == 0 ? std::string{"no keep alive"} : fmt::format("{} ms", c.kas.get() * 100)});
  add("hctma", c.hctma, hexadecimal);
  add("mntmt", c.mntmt);
  add("mxtmt", c.mxtmt);
  add("sanicap", c.sanicap, hexadecimal);
  add("hmminds", c.hmminds);
  add("hmmaxd", c.hmmaxd);
  add("nsetidmax", c.nsetidmax);
  add("endgidmax", c.endgidmax);
  add("anatt", c.anatt);
  add("anacap", c.anacap);
  add("anagrpmax", c.anagrpmax);
  add("nanagrpid", c.nanagrpid);
  add("pels", c.pels);
  add("domainid", c.domain_id);
  add("megcap", c.megcap.saturated());
  add("sqes", c.sqes, hexadecimal,
      {fmt::format("{} bytes required, {} at most", 1U << (c.sqes & 15), 1U << (c.sqes >> 4))});
  add("cqes", c.cqes, hexadecimal,
      {fmt::format("{} bytes required, {} at most", 1U << (c.cqes & 15), 1U << (c.cqes >> 4))});
  add("maxcmd", c.maxcmd);
  add("nn", c.nn, decimal, {"the largest namespace id, not how many there are"});
  add("oncs", c.oncs, hexadecimal, bits_text(c.oncs, oncs));
  add("fuses", c.fuses, hexadecimal);
  add("fna", c.fna, hexadecimal, bits_text(c.fna, fna));
  add("vwc", c.vwc, hexadecimal, bits_text(c.vwc, vwc));
  add("awun", c.awun);
  add("awupf", c.awupf);
  add("icsvscc", c.icsvscc);
  add("nwpc", c.nwpc);
  add("acwu", c.acwu);
  add("ocfs", c.ocfs, hexadecimal);
  constexpr const char* sgls[] = {"no scatter gather lists", "scatter gather lists, any alignment",
                                  "scatter gather lists of dwords", "reserved"};
  add("sgls", c.sgls, hexadecimal, {sgls[c.sgls.get() & 3]});
  add("mnan", c.mnan);
  add("maxdna", c.maxdna.saturated());
  add("maxcna", c.maxcna);
  add_text("subnqn", printable(text_of(c.subnqn)));
  add("ioccsz", c.ioccsz);
  add("iorcsz", c.iorcsz);
  add("icdoff", c.icdoff);
  add("fcatt", c.fcatt);
  add("msdbd", c.msdbd);
  add("ofcs", c.ofcs);
  return f;
}

// "ps 0": what a power state costs.
[[nodiscard]] inline std::string power_state_text(const phasebit::nvme::power_state_descriptor& p) {
  using descriptor = phasebit::nvme::power_state_descriptor;
  const bool fine = descriptor::mxps.get(p.flags);
  return fmt::format("mp:{:.{}f}W {} enlat:{} exlat:{} rrt:{} rrl:{} rwt:{} rwl:{}",
                     p.mp.get() * (fine ? 0.0001 : 0.01), fine ? 4 : 2,
                     descriptor::nops.get(p.flags) ? "non-operational" : "operational",
                     p.enlat.get(), p.exlat.get(), p.rrt, p.rrl, p.rwt, p.rwl);
}

[[nodiscard]] inline std::vector<identify_field> namespace_fields(
    const phasebit::nvme::identify_namespace& n) {
  constexpr bit_name nsfeat[] = {{0, "thin provisioning"},
                                 {1, "atomics of its own"},
                                 {2, "errors for deallocated blocks"},
                                 {3, "identifiers are never used again"},
                                 {4, "optimal sizes below are valid"}};
  constexpr bit_name mc[] = {{0, "metadata at the end of each block"},
                             {1, "metadata in a buffer of its own"}};
  constexpr bit_name dpc[] = {{0, "protection type 1"},
                              {1, "protection type 2"},
                              {2, "protection type 3"},
                              {3, "protection first in metadata"},
                              {4, "protection last in metadata"}};
  constexpr const char* dlfeat[] = {"deallocated blocks read as anything",
                                    "deallocated blocks read as 00h",
                                    "deallocated blocks read as FFh"};
  const std::uint32_t block = n.block_bytes();
  const auto blocks = [&](std::uint64_t count) -> std::vector<std::string> {
    if (block == 0 || count > ~std::uint64_t{0} / block) return {};
    return {size_text(count * block)};
  };
  using enum base;
  std::vector<identify_field> f;
  const auto add = [&f](std::string name, std::uint64_t value, base shown = decimal,
                        std::vector<std::string> meaning = {}) {
    f.push_back({std::move(name), value, shown, std::move(meaning)});
  };
  const auto add_text = [&f](std::string name, std::string value) {
    f.push_back({std::move(name), std::move(value), decimal, {}});
  };
  add("nsze", n.nsze, hexadecimal, blocks(n.nsze));
  add("ncap", n.ncap, hexadecimal, blocks(n.ncap));
  add("nuse", n.nuse, hexadecimal, blocks(n.nuse));
  add("nsfeat", n.nsfeat, hexadecimal, bits_text(n.nsfeat, nsfeat));
  add("nlbaf", n.nlbaf, decimal, {fmt::format("{} formats", n.nlbaf + 1)});
  add("flbas", n.flbas, hexadecimal, {fmt::format("format {} is in use", n.format_index())});
  add("mc", n.mc, hexadecimal, bits_text(n.mc, mc));
  add("dpc", n.dpc, hexadecimal, bits_text(n.dpc, dpc));
  add("dps", n.dps, hexadecimal);
  add("nmic", n.nmic, hexadecimal);
  add("rescap", n.rescap, hexadecimal);
  add("fpi", n.fpi, hexadecimal);
  add("dlfeat", n.dlfeat, decimal, {(n.dlfeat & 7) < 3 ? dlfeat[n.dlfeat & 7] : "reserved"});
  add("nawun", n.nawun);
  add("nawupf", n.nawupf);
  add("nacwu", n.nacwu);
  add("nabsn", n.nabsn);
  add("nabo", n.nabo);
  add("nabspf", n.nabspf);
  add("noiob", n.noiob);
  add("nvmcap", n.nvmcap.saturated());
  add("npwg", n.npwg);
  add("npwa", n.npwa);
  add("npdg", n.npdg);
  add("npda", n.npda);
  add("nows", n.nows);
  add("mssrl", n.mssrl);
  add("mcl", n.mcl);
  add("msrc", n.msrc);
  add("anagrpid", n.anagrpid);
  add("nsattr", n.nsattr, hexadecimal);
  add("nvmsetid", n.nvmsetid);
  add("endgid", n.endgid);
  add_text("nguid", hex_digits(n.nguid));
  add_text("eui64", hex_digits(n.eui64));
  return f;
}

}  // namespace example
