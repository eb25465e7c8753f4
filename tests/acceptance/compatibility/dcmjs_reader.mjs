// node dcmjs_reader.mjs FILE...: one line of JSON for each file that dcmjs parses or cannot parse.
import dcmjs from "dcmjs";
import fs from "node:fs";

const { DicomMessage, DicomMetaDictionary, BitArray } = dcmjs.data;
const NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
dcmjs.log.setLevel("silent");

function read(path) {
  const file = fs.readFileSync(path);
  const bytes = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
  const message = DicomMessage.readFile(bytes);
  const dataset = DicomMetaDictionary.naturalizeDataset(message.dict);
  const result = { path, elements: Object.keys(message.dict).length };
  if (dataset.BitsAllocated === 1 && NATIVE.includes(message.meta["00020010"].Value[0])) {
    const pixels = Array.isArray(dataset.PixelData) ? dataset.PixelData[0] : dataset.PixelData;
    const bits = BitArray.unpack(pixels);
    const count = dataset.Rows * dataset.Columns * dataset.NumberOfFrames;
    result.ones = bits.slice(0, count).reduce((sum, bit) => sum + (bit ? 1 : 0), 0);
  }
  return result;
}

for (const path of process.argv.slice(2)) {
  let result;
  try {
    result = read(path);
  } catch (error) {
    result = { path, error: String(error.message) };
  }
  console.log(JSON.stringify(result));
}
