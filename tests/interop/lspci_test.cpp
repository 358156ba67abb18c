// SPDX-License-Identifier: BSL-1.0
// lspci reads configuration spaces of ours from a dump and has to understand all of it.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/skip.hpp>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::pcie;

namespace {

using space = config_image<4096>;

// A function as `lspci -F` reads it, of which `bytes` are in the dump.
struct dumped {
  std::string bdf;
  const space* config;
  std::uint32_t bytes = 4096;
};

// The full lspci output for these functions.
std::string lspci(const std::vector<dumped>& functions) {
  if (std::system("command -v lspci >/dev/null 2>&1") != 0) {
    phasebit_test::skip("lspci (pciutils) is not installed");
  }
  std::string path = "/tmp/phasebit-lspci-XXXXXX";
  const int fd = ::mkstemp(path.data());
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream dump{path};
  std::array<char, 8> text{};
  for (const dumped& f : functions) {
    dump << f.bdf << " dump\n";
    for (std::uint32_t at = 0; at != f.bytes; ++at) {
      if (at % 16 == 0) {
        std::snprintf(text.data(), text.size(), at == 0 ? "00:" : "\n%02x:", at);
        dump << text.data();
      }
      std::snprintf(text.data(), text.size(), " %02x", f.config->read(at, 1));
      dump << text.data();
    }
    dump << "\n\n";
  }
  dump.close();
  std::string said;
  std::FILE* const pipe = ::popen(("lspci -F " + path + " -nn -vvv 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 512> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) said += line.data();
  CHECK(::pclose(pipe) == 0);
  ::unlink(path.c_str());
  return said;
}
std::string lspci(const space& config, const char* bdf) { return lspci({{bdf, &config}}); }

// The offsets of capabilities in the order of the lists, and how they ended.
struct capability_lists {
  std::vector<unsigned> offsets;
  bool looped = false;
  bool broken = false;
};

// By function, out of the lines "Capabilities: [40] ..." and "Capabilities: [100 v1] ...".
std::map<std::string, capability_lists> parse(const std::string& said) {
  std::map<std::string, capability_lists> all;
  std::istringstream lines{said};
  std::string line;
  capability_lists* now = nullptr;
  while (std::getline(lines, line)) {
    if (!line.empty() && line[0] != '\t') now = &all[line.substr(0, 7)];
    const std::size_t at = line.find("Capabilities: [");
    if (at != 1 || now == nullptr) continue;
    if (line.find("<chain looped>") != std::string::npos) {
      now->looped = true;
    } else if (line.find("<chain broken>") != std::string::npos) {
      now->broken = true;
    } else {
      now->offsets.push_back(
          static_cast<unsigned>(std::strtoul(line.c_str() + at + 15, nullptr, 16)));
    }
  }
  return all;
}

// A space of which only some bytes can be reached.
struct cut_space {
  space* config;
  std::uint32_t bytes;
  std::uint8_t read8(std::uint16_t at) noexcept { return config->read8(at); }
  std::uint16_t read16(std::uint16_t at) noexcept { return config->read16(at); }
  std::uint32_t read32(std::uint16_t at) noexcept { return config->read32(at); }
  void write8(std::uint16_t at, std::uint8_t v) noexcept { config->write8(at, v); }
  void write16(std::uint16_t at, std::uint16_t v) noexcept { config->write16(at, v); }
  void write32(std::uint16_t at, std::uint32_t v) noexcept { config->write32(at, v); }
  std::uint32_t size_bytes() const noexcept { return bytes; }
};

#define SAYS(text) CHECK_MESSAGE(said.find(text) != std::string::npos, said)

}  // namespace

TEST_CASE("lspci reads an NVMe function with everything that we can emit") {
  function_description d{.vendor_id = 0x1b36,
                         .device_id = 0x0010,
                         .class_code = 0x010802,
                         .revision_id = 2,
                         .subsystem_vendor_id = 0x1af4,
                         .subsystem_id = 0x1100,
                         .power_management = true};
  d.bars[0] = {bar_kind::memory64, 0x4000, false};
  d.msix = msix_description{.vectors = 9, .table_offset = 0x2000, .pba_offset = 0x3000};
  d.express = express_description{};
  d.ari_next_function = 0;
  d.sriov = sriov_description{.total_vfs = 4, .vf_device_id = 0x10};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x4000};
  d.serial_number = 0x1122'3344'5566'7788;
  space config;
  REQUIRE(emit_function(config, d));
  const auto bars = size_bars(config);
  REQUIRE(bars);
  write_bar_address(config, 0, (*bars)[0], 0x12'c000'0000);
  config.write16(header::command, 6);
  const auto msix = read_msix(config);
  REQUIRE(msix);
  set_msix_control(config, *msix, true);

  const std::string said = lspci(config, "01:00.0");
  SAYS("01:00.0 Non-Volatile memory controller [0108]");
  SAYS("[1b36:0010] (rev 02) (prog-if 02 [NVM Express])");
  SAYS("[1af4:1100]");
  SAYS("Mem+ BusMaster+");
  SAYS("Memory at 12c0000000 (64-bit, non-prefetchable)");
  SAYS("Power Management version 3");
  SAYS("MSI-X: Enable+ Count=9 Masked-");
  SAYS("Vector table: BAR=0 offset=00002000");
  SAYS("PBA: BAR=0 offset=00003000");
  SAYS("Express (v2) Endpoint");
  SAYS("FLReset+");
  SAYS("Speed 16GT/s, Width x4");
  SAYS("Supported Link Speeds: 2.5-16GT/s");
  SAYS("Alternative Routing-ID Interpretation (ARI)");
  SAYS("Single Root I/O Virtualization (SR-IOV)");
  SAYS("Initial VFs: 4, Total VFs: 4, Number of VFs: 0");
  SAYS("VF offset: 1, stride: 1, Device ID: 0010");
  SAYS("Device Serial Number 11-22-33-44-55-66-77-88");
  CHECK_MESSAGE(said.find("unknown") == std::string::npos, said);
  CHECK_MESSAGE(said.find("chain loops") == std::string::npos, said);
}

TEST_CASE("lspci reads a root port with its buses and windows") {
  space config;
  REQUIRE(emit_bridge(config, {.vendor_id = 0x1b36, .device_id = 0x000c}));
  config.write32(bridge_header::primary_bus, 0x0003'0200);
  config.write32(bridge_header::memory_base, 0xc020'c010);
  config.write8(bridge_header::io_base, 0xc0);
  config.write8(bridge_header::io_limit, 0xd0);
  config.write32(bridge_header::prefetchable_base, 0x0010'0000);
  config.write32(bridge_header::prefetchable_base_upper, 0x80);
  config.write32(bridge_header::prefetchable_limit_upper, 0x80);
  const std::string said = lspci(config, "00:01.0");
  SAYS("PCI bridge [0604]");
  SAYS("primary=00, secondary=02, subordinate=03");
  SAYS("I/O behind bridge: c000-dfff");
  SAYS("Memory behind bridge: c0100000-c02fffff");
  SAYS("behind bridge: 0000008000000000-00000080001fffff");
  SAYS("Express (v2) Root Port");
}

TEST_CASE("lspci and our reader find the same capabilities in fifty odd configuration spaces") {
  struct odd_space {
    const char* what;
    void (*change)(space&, std::uint16_t pointer);  // `pointer`: where the list begins
    bool into_header = false;                       // lspci follows such links, we do not
    std::uint32_t bytes = 4096;
  };
  // The honest list is 40h power management, 48h vendor, 60h express; 100h serial number, 140h vendor.
  static constexpr odd_space kinds[] = {
      {"honest", [](space&, std::uint16_t) {}},
      {"first pointer plus 1", [](space& c, std::uint16_t p) { c.set8(p, 0x41); }},
      {"first pointer plus 2", [](space& c, std::uint16_t p) { c.set8(p, 0x42); }},
      {"first pointer plus 3", [](space& c, std::uint16_t p) { c.set8(p, 0x43); }},
      {"next pointer plus 3", [](space& c, std::uint16_t) { c.set8(0x41, 0x4b); }},
      {"loop to itself", [](space& c, std::uint16_t) { c.set8(0x49, 0x48); }},
      {"loop to the first", [](space& c, std::uint16_t) { c.set8(0x61, 0x40); }},
      {"misaligned loop", [](space& c, std::uint16_t) { c.set8(0x61, 0x4a); }},
      {"into the header", [](space& c, std::uint16_t) { c.set8(0x49, 0x10); }, true},
      {"to the last dword",
       [](space& c, std::uint16_t) {
         c.set8(0x49, 0xfc);
         c.set16(0xfc, 0x6009);
       }},
      {"overlapping",
       [](space& c, std::uint16_t) {
         c.set8(0x41, 0x44);
         c.set16(0x44, 0x4809);
       }},
      {"to bytes of ones",
       [](space& c, std::uint16_t) {
         c.set8(0x49, 0x80);
         c.set32(0x80, 0xffff'ffff);
       }},
      {"no list", [](space& c, std::uint16_t) { c.set16(header::status, 0); }},
      {"empty list", [](space& c, std::uint16_t p) { c.set8(p, 0); }},
      {"empty list, misaligned", [](space& c, std::uint16_t p) { c.set8(p, 3); }},
      {"extended loop", [](space& c, std::uint16_t) { c.set32(0x140, 0x1001'000b); }},
      {"extended misaligned", [](space& c, std::uint16_t) { c.set32(0x100, 0x1431'0003); }},
      {"extended below its space", [](space& c, std::uint16_t) { c.set32(0x140, 0x0401'000b); },
       true},
      {"extended empty", [](space& c, std::uint16_t) { c.set32(0x100, 0); }},
      {"extended of ones", [](space& c, std::uint16_t) { c.set32(0x100, 0xffff'ffff); }},
      {"truncated", [](space&, std::uint16_t) {}, false, 256},
  };
  std::vector<std::unique_ptr<space>> spaces;
  std::vector<dumped> functions;
  std::vector<const odd_space*> what;
  for (unsigned type = 0; type != 3; ++type) {
    for (const odd_space& kind : kinds) {
      auto c = std::make_unique<space>();
      c->set32(header::vendor_id, 0x0010'1b36);
      c->set16(header::status, 0x10);
      c->set32(header::revision_id, type == 0   ? 0x0108'0200
                                    : type == 1 ? 0x0604'0000
                                                : 0x0607'0000);
      c->set8(header::header_type, static_cast<std::uint8_t>(type));
      const std::uint16_t pointer = type == 2 ? header::cardbus_capabilities : header::capabilities;
      c->set8(pointer, 0x40);
      c->set32(0x40, 0x0003'4801);
      c->set32(0x48, 0x0008'6009);
      c->set32(0x60, 0x0002'0010);
      c->set32(0x100, 0x1401'0003);
      c->set32(0x140, 0x0001'000b);
      c->set32(0x144, 0x00c0'0001);
      kind.change(*c, pointer);
      std::array<char, 8> bdf{};
      std::snprintf(bdf.data(), bdf.size(), "%02x:00.0", static_cast<unsigned>(spaces.size()));
      functions.push_back({bdf.data(), c.get(), kind.bytes});
      what.push_back(&kind);
      spaces.push_back(std::move(c));
    }
  }
  REQUIRE(functions.size() >= 50);
  const std::string said = lspci(functions);
  const auto theirs = parse(said);
  for (std::size_t i = 0; i != functions.size(); ++i) {
    CAPTURE(what[i]->what);
    CAPTURE(functions[i].bdf);
    cut_space config{spaces[i].get(), functions[i].bytes};
    capability_lists ours;
    const auto seen = [&](auto, std::uint16_t at) {
      ours.offsets.push_back(at);
      return true;
    };
    const auto note = [&](const result<>& walked) {
      if (walked) return true;
      if (walked.error().code == errc::loop) ours.looped = true;
      if (walked.error().code == errc::protocol) ours.broken = true;
      return false;
    };
    static_cast<void>(note(for_each_capability(config, seen)));
    // lspci looks at the extended list only where it has met a PCI Express capability.
    bool express = false;
    for (const unsigned at : ours.offsets)
      express |= spaces[i]->read8(static_cast<std::uint16_t>(at)) == 0x10;
    if (express) static_cast<void>(note(for_each_extended_capability(config, seen)));
    const auto found = theirs.find(functions[i].bdf);
    REQUIRE_MESSAGE(found != theirs.end(), said);
    if (what[i]->into_header) {
      CHECK(ours.broken);
      REQUIRE(found->second.offsets.size() >= ours.offsets.size());
      for (std::size_t n = 0; n != ours.offsets.size(); ++n) {
        CHECK(found->second.offsets[n] == ours.offsets[n]);
      }
      continue;
    }
    CHECK_MESSAGE(found->second.offsets == ours.offsets, said);
    CHECK(found->second.looped == ours.looped);
    CHECK(found->second.broken == ours.broken);
  }
}
