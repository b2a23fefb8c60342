"""The classes of toy_street, (name, colour of its label); the train id is the position."""

CLASSES = (
    ("road", (128, 64, 128)),
    ("marking", (250, 240, 250)),
    ("pavement", (244, 35, 232)),
    ("grass", (152, 251, 152)),
    ("building", (70, 70, 70)),
    ("tree", (107, 142, 35)),
    ("sky", (70, 130, 180)),
    ("pole", (190, 153, 153)),
    ("sign", (250, 170, 30)),
    ("car", (0, 0, 142)),
    ("person", (220, 20, 60)),
)
ROAD, MARKING, PAVEMENT, GRASS, BUILDING, TREE, SKY, POLE, SIGN, CAR, PERSON = range(len(CLASSES))
