# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Exchanges files with NumPy and the Python package safetensors, bit for bit.

    files.py PROGRAM

PROGRAM is exchange.cpp, built: it reads a file that is written here and writes one that is read here.
Exits 1 and names what differs; 77 (skipped) where a package is missing.
"""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors
    import safetensors.numpy
except ImportError as missing:
    print(f"skipped, because the Python package {missing.name} is not installed")
    sys.exit(77)

# Name in files, name in Python, bytes of an entry.
DTYPES = [("BOOL", "bool", 1), ("I8", "int8", 1), ("U8", "uint8", 1), ("I16", "int16", 2),
          ("U16", "uint16", 2), ("F16", "float16", 2), ("BF16", "bfloat16", 2),
          ("I32", "int32", 4), ("U32", "uint32", 4), ("F32", "float32", 4), ("I64", "int64", 8),
          ("U64", "uint64", 8), ("F64", "float64", 8)]
SHAPES = [(), (1,), (7,), (0,), (3, 0), (0, 4), (1, 5), (5, 1), (3, 4), (130, 200), (2, 3, 4),
          (1, 2, 1, 3, 1, 1, 2, 1)]

draw = random.Random(20)


def entries(dtype, shape, size):
    """Any bits: signalling NaNs, infinities and subnormal numbers are among them."""
    count = math.prod(shape)
    if dtype == "BOOL":
        return bytes(draw.randrange(2) for _ in range(count))
    return draw.randbytes(count * size)


def expect(holds, what):
    if not holds:
        sys.exit(f"files.py: {what}")


def turned(content, shape, size):
    """The bytes of a transpose, by plain loops."""
    rows, cols = shape
    return b"".join(content[(i * cols + j) * size:(i * cols + j + 1) * size]
                    for j in range(cols) for i in range(rows))


def exchange(program, source, target):
    done = subprocess.run([program, source, target], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{source.name}: {done.stderr.strip()}")


def safetensors_files(program, folder):
    tensors = {}
    for name, python_name, size in DTYPES:
        for shape in SHAPES:
            key = f"{name}.{'x'.join(map(str, shape))} \u00e9\U0001f600\"\\\n"
            tensors[key] = (name, python_name, size, shape, entries(name, shape, size))
    metadata = {"format": "pt", "\u00e9\U0001f600": "\"\\/\b\f\n\r\t\u0001\u007f", "empty": ""}
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    held = {key: numpy.frombuffer(tensor[4] or b"\0", numpy.uint8)
            for key, tensor in tensors.items()}
    specs = {key: safetensors.TensorSpec(dtype=python_name, shape=list(shape),
                                         data_ptr=held[key].ctypes.data, data_len=len(content))
             for key, (_, python_name, _, shape, content) in tensors.items()}
    source.write_bytes(safetensors.serialize(specs, metadata))
    exchange(program, source, target)

    read = dict(safetensors.deserialize(target.read_bytes()))
    expected = {}
    for key, (name, _, size, shape, content) in tensors.items():
        expected[key] = (name, list(shape), content)
        if len(shape) == 2:
            expected[key + ".turned"] = (name, list(shape[::-1]), turned(content, shape, size))
    expect(read.keys() == expected.keys(), "the tensors have other names")
    for key, (name, shape, content) in expected.items():
        found = read[key]
        expect(found["dtype"] == name, f"{key}: {found['dtype']}, expected {name}")
        expect(found["shape"] == shape, f"{key}: {found['shape']}, expected {shape}")
        expect(bytes(found["data"]) == content, f"{key}: other bytes")
    with safetensors.safe_open(target, framework="numpy") as file:
        expect(file.metadata() == metadata, f"metadata {file.metadata()}, expected {metadata}")
    floats = [key for key, value in expected.items() if value[0] == "F32"]
    with safetensors.safe_open(target, framework="numpy") as file:
        for key in floats:
            expect(file.get_tensor(key).tobytes() == expected[key][2], f"{key}: other numbers")
    return len(expected)


def npy_files(program, folder):
    count = 0
    types = [name for _, name, _ in DTYPES if name != "bfloat16"] + ["complex64", "complex128"]
    for type_name in types:
        for shape in SHAPES:
            for order in "CF":
                dtype = numpy.dtype(type_name)
                content = entries("BOOL" if type_name == "bool" else "", shape, dtype.itemsize)
                array = numpy.asarray(numpy.frombuffer(content, dtype).reshape(shape), order=order)
                source, target = folder / "in.npy", folder / "out.npy"
                version = (1 + count % 3, 0)
                with open(source, "wb") as file:
                    numpy.lib.format.write_array(file, array, version=version)
                exchange(program, source, target)
                found = numpy.load(target)
                name = f"{type_name} {shape} {order} {version}"
                expect(found.dtype == array.dtype, f"{name}: {found.dtype}")
                expect(found.shape == array.shape, f"{name}: {found.shape}")
                # Of more than two dimensions, the entries are passed on in the file's order.
                layout = "F" if order == "F" and len(shape) > 2 else "C"
                expect(found.tobytes("C") == array.tobytes(layout), f"{name}: other bytes")
                if len(shape) == 2:
                    other = numpy.load(f"{target}.turned")
                    expect(other.tobytes("C") == array.T.tobytes("C"), f"{name}: not turned")
                count += 1
    return count


def value(depth):
    kind = draw.randrange(8 if depth < 6 else 6)
    if kind == 6:
        return [value(depth + 1) for _ in range(draw.randrange(5))]
    if kind == 7:
        return {text(): value(depth + 1) for _ in range(draw.randrange(5))}
    return [None, True, draw.randrange(-2**53, 2**53 + 1), draw.uniform(-1, 1), text(),
            math.ldexp(draw.uniform(-1, 1), draw.randrange(-1000, 1000))][kind]


def text():
    ranges = [(0, 0x20), (0x20, 0x7F), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x110000)]
    return "".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(draw.randrange(9)))


def json_files(program, folder):
    source, target = folder / "in.json", folder / "out.json"
    for k in range(60):
        document = value(0)
        source.write_text(json.dumps(document, ensure_ascii=k % 2 == 0, indent=k % 3 or None),
                          encoding="utf-8")
        exchange(program, source, target)
        with open(target, encoding="utf-8") as file:
            found = json.load(file)
        expect(repr(found) == repr(document), f"JSON {document!r} came back as {found!r}")
    return 60


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: files.py PROGRAM")
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        print(f"safetensors {safetensors.__version__}:",
              safetensors_files(program, folder), "tensors;",
              f"NumPy {numpy.__version__}:", npy_files(program, folder), "files;",
              json_files(program, folder), "JSON texts")


if __name__ == "__main__":
    main()
