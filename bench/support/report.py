#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Joins the rows of the benchmark programs: floors, ratios, the table and the JSON file.

  report.py sizes LISTED                  the sizes in bytes of the listed rows, with commas
  report.py limits LIMITS                 prints what the machine can do
  report.py table LIMITS LISTED MEASURED  prints the table and the ratios
            [--json FILE]                 and writes all rows with their floors

LISTED, LIMITS and MEASURED hold one JSON object a line. Python's standard library alone.
"""
import json
import sys


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def name_of(row):
    return "{case}/{shape}/{scalar}/{threads}".format(**row)


def rate(row, what):
    """GFLOP/s or GB/s: a number a nanosecond is 10^9 a second."""
    return row[what] / row["median_ns"]


def engineering(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return "%.4g %s" % (nanoseconds / size, unit)
    return "%.4g ns" % nanoseconds


def share(fraction):
    return "%.0f %%" % (100 * fraction)


class Floors:
    """The longer of moving the bytes and doing the arithmetic, at the best rates of this run."""

    def __init__(self, limits, measured):
        self.copies = {}
        self.products = {}
        for row in limits:
            if row["case"] == "copy":
                self._keep(self.copies, (row["bytes"], row["threads"]), row, "bytes")
        # A product among the cases may be faster than those that only look for the rate.
        for row in limits + measured:
            if row["case"] in ("gemm_rate", "gemm"):
                self._keep(self.products, (row["scalar"], row["threads"]), row, "flops")

    @staticmethod
    def _keep(best, key, row, what):
        if key not in best or rate(row, what) > rate(best[key], what):
            best[key] = row

    def row(self, listed):
        """The floor of a listed row, as a row of impl `limit`."""
        copy = self.copies[listed["bytes"], listed["threads"]]
        product = self.products[listed["scalar"], listed["threads"]]
        moving = listed["bytes"] / rate(copy, "bytes")
        computing = listed["flops"] / rate(product, "flops")
        version = "%s copy %.1f GB/s; %s product %.1f GFLOP/s at %s" % (
            copy["impl"], rate(copy, "bytes"), product["impl"], rate(product, "flops"),
            product["shape"])
        floor = max(moving, computing)
        return dict(listed, impl="limit", version=version, median_ns=floor, min_ns=floor)


FIELDS = ("case", "impl", "version", "scalar", "shape", "threads", "median_ns", "min_ns", "flops",
          "bytes", "limit_fraction")


def print_limits(limits):
    best = {}
    for row in limits:
        if row["case"] == "fma":
            print("  fused multiply-add, %-6s %8.1f GFLOP/s" % (row["scalar"], rate(row, "flops")))
        elif row["case"] == "gemm_rate":
            key = (row["scalar"], row["impl"])
            if key not in best or rate(row, "flops") > rate(best[key], "flops"):
                best[key] = row
    for (scalar, maker), row in sorted(best.items()):
        print("  product, %-6s %-9s %8.1f GFLOP/s at %s" % (
            scalar, maker, rate(row, "flops"), row["shape"]))
    copies = {}
    for row in limits:
        if row["case"] == "copy":
            text = "%s %.1f GB/s" % (row["impl"], rate(row, "bytes"))
            copies.setdefault(row["bytes"], []).append(text)
    for size, texts in sorted(copies.items()):
        print("  copy, %11d bytes: %s" % (size, ", ".join(sorted(texts))))


def print_table(names, rows):
    width = max([len(name) for name in names] + [24])
    line = "%-" + str(width) + "s  %-11s %10s %10s %9s %8s %9s  %s"
    print(line % ("case/shape/scalar/threads", "impl", "median", "min", "GFLOP/s", "GB/s",
                  "of limit", "stiefelx is"))
    for name in names:
        ours = rows[name].get("stiefelx")
        shown = name
        for maker, row in rows[name].items():
            ratio = ""
            if ours and maker not in ("stiefelx", "limit"):
                ratio = "%.2f x as fast" % (row["median_ns"] / ours["median_ns"])
            print((line % (shown, maker, engineering(row["median_ns"]), engineering(row["min_ns"]),
                           "%.1f" % rate(row, "flops"), "%.1f" % rate(row, "bytes"),
                           "" if maker == "limit" else share(row["limit_fraction"]),
                           ratio)).rstrip())
            shown = ""


def print_ratios(rows):
    """What is not a ratio of two rows of one combination."""
    lines = []
    for name, makers in rows.items():
        if "stiefelx" not in makers:
            continue
        ours = makers["stiefelx"]
        if ours["case"] == "retract_qr":
            product = name.replace(ours["case"], "gemm", 1)
            if "limit" in rows.get(product, {}):
                floor = rows[product]["limit"]["median_ns"]
                lines.append("  %s: floor of one gemm over stiefelx %.3f" % (
                    name, floor / ours["median_ns"]))
        if ours["case"] in ("moe_lora_forward", "moe_lora_forward_backward"):
            base = rows.get(name.replace("lora_", "lora_base_", 1), {}).get("stiefelx")
            if base:
                # The arithmetic beside the frozen products, at the rate that those reach.
                beside = (ours["flops"] - base["flops"]) / rate(base, "flops")
                lines.append("  %s: frozen products over all of it %.3f, with the other arithmetic "
                             "at their rate %.3f" % (
                                 name, base["median_ns"] / ours["median_ns"],
                                 (base["median_ns"] + beside) / ours["median_ns"]))
        if ours["case"] == "omoe_forward_backward":
            plain = name.replace("omoe_", "moe_lora_", 1)
            if "stiefelx" in rows.get(plain, {}):
                lines.append("  %s over %s: %.3f" % (
                    name, plain.split("/")[0],
                    ours["median_ns"] / rows[plain]["stiefelx"]["median_ns"]))
    if lines:
        print("\nratios across cases")
        print("\n".join(lines))


def table(limits_path, listed_path, measured_path, json_path):
    limits, measured = read_rows(limits_path), read_rows(measured_path)
    floors = Floors(limits, measured)
    names, rows = [], {}
    for listed in read_rows(listed_path):
        name = name_of(listed)
        names.append(name)
        rows[name] = {"limit": floors.row(listed)}
    for row in measured:
        makers = rows[name_of(row)]
        if row["impl"] in makers:
            sys.exit("report.py: %s of %s was measured twice" % (name_of(row), row["impl"]))
        makers[row["impl"]] = row
    for makers in rows.values():
        makers["limit"] = makers.pop("limit")  # last in the table
        for row in makers.values():
            row["limit_fraction"] = makers["limit"]["median_ns"] / row["median_ns"]

    print_table(names, rows)
    print_ratios(rows)
    versions = {}
    for row in measured:
        versions.setdefault(row["impl"], row["version"])
    print("\nversions")
    for maker, version in versions.items():
        print("  %-11s %s" % (maker, version))

    if json_path:
        with open(json_path, "w", encoding="utf-8") as file:
            for name in names:
                for row in rows[name].values():
                    file.write(json.dumps({field: row[field] for field in FIELDS}) + "\n")


def main(arguments):
    json_path = None
    if "--json" in arguments:
        at = arguments.index("--json")
        json_path = arguments[at + 1]
        del arguments[at:at + 2]
    if arguments[:1] == ["sizes"] and len(arguments) == 2:
        sizes = sorted({int(row["bytes"]) for row in read_rows(arguments[1])})
        print(",".join(map(str, sizes)))
    elif arguments[:1] == ["limits"] and len(arguments) == 2:
        print_limits(read_rows(arguments[1]))
    elif arguments[:1] == ["table"] and len(arguments) == 4:
        table(*arguments[1:], json_path)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
