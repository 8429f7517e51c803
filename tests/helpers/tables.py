"""CSV tables of objects as different tools write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats

CSV = formats["csv"]
WIDTH, HEIGHT = 200, 100

Objects = Dict[str, List[Tuple[str, List[float]]]]

EXPECTED: Objects = {
    "a": [("cat", [20, 10, 79, 49]), ("dog", [100, 50, 139, 89])],
    "b": [("cat", [0, 0, 199, 99])],
    "c": [],
}
"""Boxes of columns 20 to 79 and so on, whose right edges are at 80."""


def read_csv(
    folder: Path, text: str = "", name: str = "train.csv", split: str = "", **options: Any
) -> Dataset:
    if text:
        (folder / name).write_bytes(text.encode(options.pop("encoding", "utf-8")))
    return CSV.read(folder, split or next(iter(CSV.lists(folder))), **options)


def objects(dataset: Dataset) -> Objects:
    return {
        sample.image_id: [
            (dataset.classes[label], np.round(box, 3).tolist())
            for label, box in zip(sample.labels, sample.boxes.astype(float))
        ]
        for sample in dataset
    }


HEADERS = "filename,width,height,class,xmin,ymin,xmax,ymax\n"

TABLES: Dict[str, str] = {
    "TensorFlow": HEADERS + "a.jpg,200,100,cat,21,11,80,50\na.jpg,200,100,dog,101,51,140,90\n"
    "b.jpg,200,100,cat,1,1,200,100\nc.jpg,200,100,,,,,\n",
    "keras-retinanet": "a.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\nb.jpg,0,0,200,100,cat\nc.jpg,,,,,\n",
    "keras-retinanet, folders of another machine": "/somewhere/data/a.jpg,20,10,80,50,cat\n"
    "D:\\data\\a.jpg,100,50,140,90,dog\nimages/b.jpg,0,0,200,100,cat\nx/c.jpg,,,,,\n",
    "SKU-110K": "a.jpg,20,10,80,50,cat,200,100\na.jpg,100,50,140,90,dog,200,100\n"
    "b.jpg,0,0,200,100,cat,200,100\nc.jpg,,,,,,200,100\n",
    "OpenImages": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    "a,xclick,cat,1,0.1,0.4,0.1,0.5,0,0\na,xclick,dog,1,0.5,0.7,0.5,0.9,0,0\nb,xclick,cat,1,0,1,0,1,0,0\n"
    "c,,,,,,,,,\n",
    "VIA": "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    "region_attributes\n"
    'a.jpg,9,"{}",2,0,"{""name"":""rect"",""x"":20,""y"":10,""width"":60,""height"":40}","{""kind"":""cat""}"\n'
    'a.jpg,9,"{}",2,1,"{""name"":""polygon"",""all_points_x"":[100,140,120],""all_points_y"":[60,50,90]}",'
    '"{""kind"":""dog""}"\n'
    'b.jpg,9,"{}",1,0,"{""name"":""ellipse"",""cx"":100,""cy"":50,""rx"":100,""ry"":50}","{""kind"":{""cat"":true}}"'
    '\nc.jpg,9,"{}",0,0,"{}","{}"\n',
    "VoTT": '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",20,10,80,50,"cat"\n'
    '"a.jpg",100,50,140,90,"dog"\n'
    '"b.jpg",0,0,200,100,"cat"\n"c.jpg",,,,,\n',
    "AutoML": "UNASSIGNED,gs://bucket/x/a.jpg,cat,0.1,0.1,,,0.4,0.5,,\n"
    "UNASSIGNED,gs://bucket/x/a.jpg,dog,0.5,0.5,0.7,0.5,0.7,0.9,0.5,0.9\n"
    "UNASSIGNED,gs://bucket/x/b.jpg,cat,0,0,,,1,1,,\nUNASSIGNED,gs://bucket/x/c.jpg,,,,,,,,,\n",
    "AutoML without set": "gs://bucket/a.jpg,cat,0.1,0.1,,,0.4,0.5,,\ngs://bucket/a.jpg,dog,0.5,0.5,,,0.7,0.9,,\n"
    "gs://bucket/b.jpg,cat,0,0,,,1,1,,\ngs://bucket/c.jpg,,,,,,,,,\n",
    "Kaggle": "image_id,width,height,bbox,label\na,200,100,\"[20.0, 10.0, 60.0, 40.0]\",cat\n"
    'a,200,100,"[100, 50, 40, 40]",dog\nb,200,100,"[0, 0, 200, 100]",cat\nc,200,100,,\n',
    "box as corner and size": "label,x,y,width,height,image\ncat,20,10,60,40,a.jpg\ndog,100,50,40,40,a.jpg\n"
    "cat,0,0,200,100,b.jpg\n,,,,,c.jpg\n",
    "w, h of the box and width, height of the image": "image_path,w,h,x,y,width,height,category\n"
    "a.jpg,60,40,20,10,200,100,cat\na.jpg,40,40,100,50,200,100,dog\nb.jpg,200,100,0,0,200,100,cat\n"
    "c.jpg,,,,,200,100,\n",
    "prefixes": "img_name,bbox_xmin,bbox_ymin,bbox_width,bbox_height,class_name\na,20,10,60,40,cat\n"
    "a,100,50,40,40,dog\nb,0,0,200,100,cat\nc,,,,,\n",
    "center": "file,class,x_center,y_center,w,h\na.jpg,cat,50,30,60,40\na.jpg,dog,120,70,40,40\n"
    "b.jpg,cat,100,50,200,100\nc.jpg,,,,,\n",
    "names and numbers of classes": "class_id,class_name,Left,Top,Right,Bottom,File Name\n"
    "0,cat,20,10,80,50,a.jpg\n"
    "1,dog,100,50,140,90,a.jpg\n0,cat,0,0,200,100,b.jpg\n,,,,,,c.jpg\n",
    "x0 to x1": "name,x0,y0,x1,y1,label\na.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\n"
    "b.jpg,0,0,200,100,cat\nc.jpg,,,,,\n",
    "sizes of boxes": "filename,label,width,height,x1,y1,x2,y2\na.jpg,cat,60,40,20,10,80,50\n"
    "a.jpg,dog,40,40,100,50,140,90\nb.jpg,cat,200,100,0,0,200,100\nc.jpg,,,,,,,\n",
    "index and unused columns": ",image,id,x1,y1,x2,y2,label,notes\n0,a.jpg,7,20,10,80,50,cat,x\n"
    "1,a.jpg,8,100,50,140,90,dog,\n2,b.jpg,9,0,0,200,100,cat,\n3,c.jpg,,,,,,,\n",
    "percent-encoded": "image,xmin,ymin,xmax,ymax,label\n%61.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\n"
    "https://host/x/b.jpg?size=1,0,0,200,100,cat\nc.jpg,,,,,\n",
}  # fmt: skip
