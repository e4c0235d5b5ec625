"""What pictures and labels need to know: pixel means, the smallest face, the order of mirrored landmarks."""

#: Subtracted from BGR pixels in 0..255, in that order; nothing is divided.
MEAN_BGR = (104, 117, 123)

#: Values of --cache: where decoded pictures are kept.
FILES, RAM, DEVICE = "none", "ram", "device"
CACHES = (FILES, RAM, DEVICE)

#: Faces whose shorter side is under this many pixels at training scale are ignored, never background.
MIN_FACE_PIXELS = 6.0

#: Order of the landmarks in a mirrored picture: the eyes and the mouth corners change sides.
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]
