// A sound of the user's: a file, or the microphone. The browser decodes it, whatever its format, to mono at 16 kHz.
const RATE = 16000;

async function decoded(bytes) {
  const context = new OfflineAudioContext(1, 1, RATE), whole = await context.decodeAudioData(bytes);
  const mono = new Float32Array(whole.length);
  for (let c = 0; c < whole.numberOfChannels; c++) whole.getChannelData(c).forEach((v, k) => { mono[k] += v / whole.numberOfChannels; });
  return Int16Array.from(mono, (v) => Math.max(-32768, Math.min(32767, Math.round(32767 * v))));
}

function render({ model, el }) {
  el.innerHTML = `<div><label>sound file <input type="file" accept="audio/*,video/*"></label> or
    <button>record</button> <span role="status"></span></div>`;
  const [input, button, said] = ["input", "button", "span"].map((name) => el.querySelector(name));
  let recorder = null;

  async function send(blob, name) {
    said.textContent = "reading ...";
    try {
      const samples = await decoded(await blob.arrayBuffer());
      model.set("name", name);
      model.set("samples", new DataView(samples.buffer));
      model.save_changes();
      said.textContent = `${name}: ${(samples.length / RATE).toFixed(1)} s`;
    } catch (error) {
      said.textContent = `${name}: not a sound that this browser can read (${error.message || error})`;
    }
  }

  input.onchange = () => input.files.length && send(input.files[0], input.files[0].name);
  button.onclick = async () => {
    if (recorder) return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), pieces = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = (event) => pieces.push(event.data);
      recorder.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        button.textContent = "record";
        recorder = null;
        send(new Blob(pieces), "your recording");
      };
      recorder.start();
      button.textContent = "stop";
      said.textContent = "recording ...";
    } catch (error) {
      said.textContent = `no microphone (${error.message || error})`;
    }
  };
}

export default { render };
