"""How each value is said in each language. Knows words and sentence patterns; knows no scene.

A hair style is a pattern that takes the colour (`{color}`); `figure` and `scene` patterns name the parts they take.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from animeflow.toonworld.words import ATTRIBUTES


@dataclass(frozen=True)
class Language:
    """One language: a phrase per value, and patterns that join them."""

    phrases: dict[str, str]
    figure: str  # {who} {hair} {eyes} {expression} {outfit} {accessory} {pose}
    worn: str  # how an accessory continues the outfit: {accessory}
    girl: str
    named: str  # {character} {series}
    scene: str  # {figures} {background} {lighting} {artist}
    places: tuple[tuple[str, ...], ...]  # for 2 and for 3 figures: pattern of each place from left to right, {figure}
    opening: tuple[str, ...]  # for 1, 2 and 3 figures; {figures}
    join: str


_VALUES = [value for name, values in ATTRIBUTES.items() if name not in ("count", "character") for value in values]


def _phrases(text: str) -> dict[str, str]:
    """One phrase per line, in the order of the values of `ATTRIBUTES`."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return {value: "" if line == "-" else line for value, line in zip(_VALUES, lines, strict=True)}


_EN = Language(
    phrases=_phrases(
        """black
        blonde
        red
        blue
        green
        pink
        purple
        white
        short {color} hair
        long {color} hair
        {color} hair in twintails
        {color} hair in a side ponytail
        {color} hair in two buns
        blue eyes
        green eyes
        red eyes
        purple eyes
        yellow eyes
        smiling
        laughing with an open mouth
        angry
        crying
        winking with one eye closed
        a school uniform
        a kimono
        a dress
        a hoodie
        a maid outfit
        armor
        -
        glasses
        cat ears
        a hair bow
        a hair flower
        a witch hat
        with her arms at her sides
        raising her left arm
        raising her right arm
        raising both arms
        in the sky above the clouds
        on a beach
        under cherry blossoms
        in a classroom
        in a city street
        in the snow
        at night
        at sunset
        by day
        in overexposed white light
        bold brush
        soft wash
        sticker pop
        ink hatch"""
    ),
    figure="{who} with {hair} and {eyes}, {expression}, wearing {outfit}{accessory}, {pose}",
    worn=" and {accessory}",
    girl="a girl",
    named="{character} from {series}",
    scene="{figures} {background} {lighting}, drawn by {artist}.",
    places=(("on the left, {figure}", "on the right, {figure}"),
            ("on the left, {figure}", "in the middle, {figure}", "on the right, {figure}")),
    opening=("{figures},", "Two girls: {figures},", "Three girls: {figures},"),
    join="; ",
)  # fmt: skip
_JA = Language(
    phrases=_phrases(
        """黒い
        金色の
        赤い
        青い
        緑の
        ピンクの
        紫の
        白い
        {color}短い髪
        {color}長い髪
        {color}髪のツインテール
        {color}髪のサイドポニーテール
        {color}髪のお団子頭
        青い目
        緑の目
        赤い目
        紫の目
        黄色い目
        微笑んで
        口を開けて笑って
        怒って
        泣いて
        片目を閉じてウインクして
        制服
        着物
        ドレス
        パーカー
        メイド服
        鎧
        -
        眼鏡
        猫耳
        髪のリボン
        髪飾りの花
        魔女の帽子
        腕を下ろしている
        左腕を上げている
        右腕を上げている
        両腕を上げている
        雲の上の空
        浜辺
        桜の木の下
        教室
        街
        雪の中
        夜
        夕焼け
        昼
        露出オーバーの白い光
        ボールドブラシ
        ソフトウォッシュ
        ステッカーポップ
        インクハッチ"""
    ),
    figure="{hair}と{eyes}の{who}が{expression}、{outfit}{accessory}を身につけ、{pose}",
    worn="と{accessory}",
    girl="女の子",
    named="{series}の{character}",
    scene="{background}、{lighting}、{figures}画風は{artist}。",
    places=(("左に{figure}", "右に{figure}"), ("左に{figure}", "中央に{figure}", "右に{figure}")),
    opening=("{figures}。", "二人の女の子。{figures}。", "三人の女の子。{figures}。"),
    join="、",
)
_ES = Language(
    phrases=_phrases(
        """negro
        rubio
        rojo
        azul
        verde
        rosa
        morado
        blanco
        pelo corto {color}
        pelo largo {color}
        pelo {color} con dos coletas
        pelo {color} con coleta lateral
        pelo {color} con dos moños
        ojos azules
        ojos verdes
        ojos rojos
        ojos morados
        ojos amarillos
        sonriendo
        riendo con la boca abierta
        enfadada
        llorando
        guiñando un ojo cerrado
        uniforme escolar
        kimono
        vestido
        sudadera
        traje de sirvienta
        armadura
        -
        gafas
        orejas de gato
        lazo en el pelo
        flor en el pelo
        sombrero de bruja
        con los brazos abajo
        levantando el brazo izquierdo
        levantando el brazo derecho
        levantando los dos brazos
        en el cielo sobre las nubes
        en una playa
        bajo los cerezos en flor
        en un aula
        en una calle de la ciudad
        en la nieve
        de noche
        al atardecer
        de día
        con luz blanca sobreexpuesta
        bold brush
        soft wash
        sticker pop
        ink hatch"""
    ),
    figure="{who} de {hair} y {eyes}, {expression}, lleva {outfit}{accessory}, {pose}",
    worn=" y {accessory}",
    girl="una chica",
    named="{character} de {series}",
    scene="{figures} {background} {lighting}, dibujado por {artist}.",
    places=(("a la izquierda está {figure}", "a la derecha está {figure}"),
            ("a la izquierda está {figure}", "en el centro está {figure}", "a la derecha está {figure}")),
    opening=("{figures},", "Dos chicas: {figures},", "Tres chicas: {figures},"),
    join="; ",
)  # fmt: skip
_ZH = Language(
    phrases=_phrases(
        """黑色
        金色
        红色
        蓝色
        绿色
        粉色
        紫色
        白色
        {color}短发
        {color}长发
        {color}双马尾
        {color}侧马尾
        {color}双丸子头
        蓝色眼睛
        绿色眼睛
        红色眼睛
        紫色眼睛
        黄色眼睛
        微笑
        张嘴大笑
        生气
        哭泣
        闭上一只眼睛
        校服
        和服
        连衣裙
        连帽衫
        女仆装
        盔甲
        -
        眼镜
        猫耳
        蝴蝶结
        花朵发饰
        女巫帽
        双臂放下
        举起左臂
        举起右臂
        举起双臂
        云上的天空
        海滩
        樱花树下
        教室
        城市街道
        雪地
        夜晚
        日落
        白天
        过曝的白光
        粗笔
        柔彩
        贴纸
        墨线"""
    ),
    figure="{hair}、{eyes}的{who}，{expression}，穿着{outfit}{accessory}，{pose}",
    worn="和{accessory}",
    girl="女孩",
    named="{series}的{character}",
    scene="{background}，{lighting}，{figures}画风是{artist}。",
    places=(("左边是{figure}", "右边是{figure}"), ("左边是{figure}", "中间是{figure}", "右边是{figure}")),
    opening=("{figures}。", "两个女孩。{figures}。", "三个女孩。{figures}。"),
    join="；",
)
LANGUAGES: MappingProxyType[str, Language] = MappingProxyType({"en": _EN, "ja": _JA, "es": _ES, "zh": _ZH})
