"""A colour font of a few emoji, in layers of flat colour, whose skin tones are ligatures."""

from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

FACE, HAND, BLANK, TWO = "\U0001f600", "\U0001f44b", "\U0001f601", "\U0001f602"
TONES = {chr(0x1F3FB + i): name for i, name in enumerate(("light", "mlight", "medium", "mdark", "dark"))}
SKINS = ((1.0, 0.9, 0.7), (0.9, 0.7, 0.5), (0.7, 0.5, 0.4), (0.5, 0.3, 0.2), (0.3, 0.2, 0.1))
EM = 1000


def square(side):
    pen = TTGlyphPen(None)
    low, high = (EM - side) // 2, (EM + side) // 2
    pen.moveTo((low, low))
    for corner in ((low, high), (high, high), (high, low)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def write(file, *, colours=True):
    """A face, a hand in each tone, a blank emoji, and one that equals the face."""
    hands = ["hand", *(f"hand_{tone}" for tone in TONES.values())]
    glyphs = {".notdef": square(10), "space": TTGlyphPen(None).glyph(), "blank": TTGlyphPen(None).glyph()}
    glyphs |= {"face": square(900), "twin": square(900)}
    glyphs |= {name: square(500) for name in hands} | {name: square(10) for name in TONES.values()}
    font = FontBuilder(EM, isTTF=True)
    font.setupGlyphOrder(list(glyphs))
    codes = {32: "space", ord(FACE): "face", ord(HAND): "hand", ord(BLANK): "blank", ord(TWO): "twin"}
    font.setupCharacterMap(codes | {ord(sign): name for sign, name in TONES.items()})
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (EM, 0)))
    font.setupHorizontalHeader(ascent=EM, descent=0)
    font.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=EM, usWinAscent=EM, usWinDescent=0)
    font.setupPost()
    if colours:
        shown = ["face", "twin", *hands]
        font.setupCPAL([[(*rgb, 1.0) for rgb in ((1.0, 0.8, 0.0), (0.9, 0.8, 0.1), *SKINS)]])
        layers = {name: [(name, max(0, i - 1))] for i, name in enumerate(shown)}
        font.setupCOLR(layers, version=0)
    rules = "".join(f"sub hand {tone} by hand_{tone}; " for tone in TONES.values())
    addOpenTypeFeaturesFromString(font.font, f"feature liga {{ {rules} }} liga;")
    font.save(file)
