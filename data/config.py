"""The one copy of the numbers both detectors share: input means, anchor layout, channel widths."""

#: Subtracted from BGR pixels in 0..255, in that order; nothing is divided.
MEAN_BGR = (104, 117, 123)

#: Pixels per cell of the three pyramid levels P3, P4, P5.
STRIDES = (8, 16, 32)

#: Square anchor sides in pixels per level, the smaller first.
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))

ANCHORS_PER_CELL = 2

#: Scales of the box code: centre and landmark offsets, log sizes (SSD, Liu et al., ECCV 2016).
VARIANCES = (0.1, 0.2)

#: Output channels of the MobileNetV1 x0.25 stages at strides 8, 16, 32.
BACKBONE_CHANNELS = (64, 128, 256)

#: Width of the pyramid each network's neck produces.
NECK_CHANNELS = {"v1": 64, "v2": 32}

#: Faces whose shorter side is under this many pixels at training scale are ignored, never background.
MIN_FACE_PIXELS = 6.0

#: Order of the landmarks in a mirrored picture: the eyes and the mouth corners change sides.
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]
