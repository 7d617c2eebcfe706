// Take a photo: with a live view if the browser supports it, else through the system's camera app.
import { Problem } from "./text.js";

const get = (id) => document.getElementById(id);

/** Calls `onPhoto(file)` with the photo. Throws a Problem if no camera is available. */
export async function takePhoto(onPhoto) {
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
    throw new Problem("camera", denied ? "Camera access was denied." : "No camera was found.",
      denied ? "Allow it in the address bar, or choose an image." : "Choose an image instead.");
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
    onPhoto(new File([blob], "photo.jpg", { type: "image/jpeg" }));
  };
}
