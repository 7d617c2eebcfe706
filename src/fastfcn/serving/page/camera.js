// A photo from the camera: a live view where the browser has one, else what the system offers.
import { Problem } from "./words.js";

const get = (id) => document.getElementById(id);

/** Calls `taken(file)` with the photo; throws a Problem where there is no camera to be had. */
export async function photograph(taken) {
  if (!navigator.mediaDevices?.getUserMedia) {
    get("capture").click();
    return;
  }
  const view = get("camera"), video = get("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    throw new Problem("camera", denied ? "The browser was told not to use it." : "No camera was found.",
      denied ? "Allow it in the address bar, or choose a picture." : "Choose a picture instead.");
  }
  video.srcObject = stream;
  await video.play();
  view.showModal();
  view.addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()), { once: true });
  get("close-camera").onclick = () => view.close();
  get("shoot").onclick = async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.94 });
    view.close();
    taken(new File([blob], "photo.jpg", { type: "image/jpeg" }));
  };
}
