"""What this repo's code is measured against: how others do the same, and the plain form of it.

"The usual loader" and "the usual evaluation loop" are stand-ins for those of RetinaFace's PyTorch port and the
repositories made from it, FeatherFace V1's among them: written anew after what these do and, where that is in doubt,
the faster way. "As published" is a network as FeatherFace V1 was published, in plain PyTorch. "The plain step" is an
optimiser step as it is written down first.
"""

#: The usual loader or loop in a row.
USUAL = "usual"
#: The plain step in a row.
PLAIN = "plain"
